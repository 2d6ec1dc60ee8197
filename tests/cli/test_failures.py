"""Errors as one line for a person, and a hint."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosed

from pie_sync.cli._failures import explain
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
