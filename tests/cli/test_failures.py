"""What goes wrong between the command and the server: one line, and what helps."""

from __future__ import annotations

import shutil
import socket
import threading
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from pie_sync.testing import LocalServer
from tests.scripted import Peer, scripted_server

from .conftest import LIMIT, CommandLine, Result, RunHere


def lines(result: Result) -> tuple[str, str]:
    """The two lines on stderr, and nothing else."""
    assert (result.code, result.stdout) == (1, "")
    error, cure = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert cure.startswith("cure: ")
    return error[7:], cure[6:]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def guarded(key_file: Path):
    """A server that knows alice by her key."""
    with LocalServer(users={"alice": Path(f"{key_file}.pub").read_text()}) as server:
        yield server.uri


def test_no_server(run_here: RunHere, free_port: int) -> None:
    uri = f"ws://127.0.0.1:{free_port}"
    error, cure = lines(run_here("ping", "--uri", uri))
    assert error.startswith(f"can't connect to {uri}: ")
    assert cure == f"is {uri} right (--uri)? `pie-sync serve` starts a server to try things out"


@pytest.mark.parametrize("before", [True, False], ids=["before the command", "behind it"])
def test_a_traceback_on_demand(run_here: RunHere, free_port: int, before: bool) -> None:
    words = ["--debug", "ping"] if before else ["ping", "--debug"]
    result = run_here(*words, "--uri", f"ws://127.0.0.1:{free_port}")
    assert result.code == 1
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert "ConnectionRefusedError" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("cure: ")


def test_a_server_that_says_nothing(run_here: RunHere) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        error, _ = lines(run_here("ping", "--uri", uri, "--timeout", "0.2"))
    assert uri in error


def test_a_server_that_hangs_up(run_here: RunHere) -> None:
    def script(peer: Peer) -> None:
        peer.authenticate()
        assert peer.receive()["type"] == "ping"
        peer.connection.close()

    with scripted_server(script) as uri:
        _, cure = lines(run_here("ping", "--uri", uri))
    assert cure.startswith("is the server still there?")


def test_what_a_server_says_cannot_control_the_terminal(run_here: RunHere) -> None:
    def script(peer: Peer) -> None:
        peer.respond(peer.receive(), "\x1b]0;title\x07no\r\nno\x9b31m", successful=False)
        with pytest.raises(ConnectionClosed):  # the client is the first to hang up
            while True:
                peer.connection.recv(LIMIT)

    with scripted_server(script) as uri:
        error, _ = lines(run_here("ping", "--uri", uri))
    assert "\\x1b]0;title\\x07no no\\x9b31m" in error


def test_a_key_is_wanted_and_there_is_none(run_here: RunHere, guarded: str, home: Path) -> None:
    error, cure = lines(run_here("ping", "--uri", guarded))
    assert error == (
        "the server wants 'alice' to prove who that is, but there is no private key: there is none in ~/.ssh"
    )
    assert "--key FILE" in cure
    assert run_here("config", "init", "--no-auth", "--uri", guarded).code == 0
    error, _ = lines(run_here("ping"))
    assert error.endswith(f"enable_auth is false in {home}/.pie/cli_config.toml")


def test_the_default_key_is_used(run_here: RunHere, guarded: str, home: Path, key_file: Path) -> None:
    (home / ".ssh").mkdir()
    shutil.copy(key_file, home / ".ssh")  # with its mode
    assert run_here("ping", "--uri", guarded).code == 0


def test_a_name_that_the_server_does_not_know(run_here: RunHere, guarded: str, key_file: Path) -> None:
    error, cure = lines(run_here("ping", "--uri", guarded, "--key", key_file, PIE_USERNAME="eve"))
    assert error == (
        "the server refuses 'eve': User 'eve' is not authorized (name from PIE_USERNAME, key from --key)"
    )
    assert cure.startswith("--username NAME and --key FILE")


def test_a_key_that_is_none(run_here: RunHere, guarded: str, home: Path) -> None:
    (home / "key").write_text("not really")
    (home / "key").chmod(0o600)
    error, cure = lines(run_here("ping", "--uri", guarded, "--key", "key"))
    assert error.startswith("key: ")
    assert "`pie-sync config show`" in cure


def test_a_key_that_others_can_read(lonely_pie: CommandLine, guarded: str, home: Path, key_file: Path) -> None:
    shutil.copy(key_file, home / "key")
    (home / "key").chmod(0o644)
    done = lonely_pie("ping", "--uri", guarded, "--key", "key", PYTHONWARNINGS="default")
    assert done.returncode == 0
    assert done.stderr == "warning: key: others can read this private key; make it yours alone: chmod 600 key\n"


def test_an_interruption_before_the_launch_is_answered(lonely_pie: CommandLine) -> None:
    """The instance that the launch makes is ended, although its id comes after the interruption."""
    launched, interrupted, terminated = threading.Event(), threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.authenticate()
        request = peer.receive()
        launched.set()
        assert interrupted.wait(LIMIT)
        peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message="the-id")
        request = peer.receive()
        assert (request["type"], request["instance_id"]) == ("terminate_instance", "the-id")
        peer.respond(request)
        peer.event(2, "gone", "the-id")
        terminated.set()

    with scripted_server(script) as uri:
        process = lonely_pie.start("run", "anything", "--uri", uri)
        assert launched.wait(LIMIT)
        process.send_signal(2)
        assert process.stderr.readline().startswith("[ending")
        interrupted.set()
        assert process.wait(LIMIT) == 130
        assert process.stderr.read() == "Aborted: gone\n"
        assert terminated.is_set()
