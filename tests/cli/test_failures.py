"""Errors as one line for a person, and a hint."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosed

from pie_sync.cli._failures import explain
from pie_sync.testing import LocalServer
from tests.old_process_server import nothing, old_process_server
from tests.scripted import Peer, scripted_server

from .conftest import LIMIT, RunHere, lines


def test_a_server_that_hangs_up(run_here: RunHere) -> None:
    def script(peer: Peer) -> None:
        peer.authenticate()
        assert peer.receive()["type"] == "ping"
        peer.connection.close()

    with scripted_server(script) as uri:
        _, hint = lines(run_here("ping", "--uri", uri))
    assert hint.startswith("is the server still there?")


def test_what_a_server_says_cannot_control_the_terminal(run_here: RunHere) -> None:
    def script(peer: Peer) -> None:
        peer.respond(peer.receive(), "\x1b]0;title\x07no\r\nno\x9b31m", successful=False)
        with pytest.raises(ConnectionClosed):  # the client is the first to hang up
            while True:
                peer.connection.recv(LIMIT)

    with scripted_server(script) as uri:
        error, _ = lines(run_here("ping", "--uri", uri))
    assert "\\x1b]0;title\\x07no no\\x9b31m" in error


def test_what_nobody_has_thought_of() -> None:
    assert explain(RuntimeError("oops\n")) == (
        "RuntimeError: oops",
        "this is a bug in pie-sync: --debug shows where",
    )
    assert explain(KeyboardInterrupt()).text == "KeyboardInterrupt: KeyboardInterrupt"


def test_hints_fit_the_server(run_here: RunHere, server: LocalServer) -> None:
    """The process protocol has no names without a version, and no instances that are detached."""
    _, hint = lines(run_here("run", "no-such-program", "--uri", server.uri))
    assert hint.startswith("is it on the server?")

    def answer(message):
        if message["type"] == "launch_process":
            return (False, "Invalid program identifier 'no-such-program': expected 'name@major.minor.patch'")
        return nothing(message)

    with old_process_server(answer) as old:
        _, hint = lines(run_here("run", "no-such-program", "--uri", old.uri))
        assert hint == "this server wants the version as well: NAME@1.2.3"
        instance_id = "5b8d7e98-432a-41a0-891a-fa287c6e56df"
        _, hint = lines(run_here("attach", instance_id, "--uri", old.uri))
        assert "attached before can't be attached to again" in hint
        assert "detached" not in hint
