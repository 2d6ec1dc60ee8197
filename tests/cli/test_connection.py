"""From the settings to a connection: servers that can't be reached, keys and passphrases."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from pie_sync.testing import LocalServer
from tests.texts.test_hints import answering

from .conftest import CTRL_D, LIMIT, CommandLine, RunHere, end_of, lines


def test_no_server(run_here: RunHere, free_port: int) -> None:
    uri = f"ws://127.0.0.1:{free_port}"
    result = run_here("ping", "--uri", uri)
    note, error, hint = result.stderr.splitlines()
    assert (result.code, result.stdout) == (1, "")
    assert note == f"[no server at {uri} yet; trying for 1.5 s]"
    assert error.startswith(f"error: can't connect to {uri}: ")
    assert hint == "hint: is the server running? `pie-sync serve` starts one to try things out"
    error, _ = lines(run_here("ping", "--timeout", "0.3", PIE_URI=uri))
    assert error.endswith(" (address from PIE_URI)")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_that_is_starting(
    run_here: RunHere, free_port: int, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """As in `pie-sync serve greet.py & pie-sync run greet`: it listens a moment after the command connects."""
    server = LocalServer(port=free_port)
    pauses = []

    def start_after_three(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            server.start()

    monkeypatch.setattr("pie_sync.cli._connection.START_TIMEOUT", LIMIT)
    monkeypatch.setattr("pie_sync.cli._connection.NOTE_AFTER", LIMIT)
    monkeypatch.setattr("pie_sync.cli._connection._pause", start_after_three)
    try:
        result = run_here("ping", "--uri", f"ws://{host}:{free_port}")
    finally:
        server.close()
    assert (result.code, result.stderr, len(pauses)) == (0, "", 3)


def test_only_this_machine_is_waited_for(
    run_here: RunHere, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal of another machine is final, and so is any other error of this one."""
    monkeypatch.setattr("pie_sync.cli._connection._pause", lambda seconds: pytest.fail(f"waits {seconds} s"))
    with answering(b"HTTP/1.1 500 Oops\r\n\r\n") as address:
        assert "500" in run_here("ping", "--uri", f"ws://{address}").stderr
    monkeypatch.setattr("pie_sync.cli._connection.is_on_this_machine", lambda uri: False)
    error, _ = lines(run_here("ping", "--uri", f"ws://127.0.0.1:{free_port}"))
    assert "refused" in error


def test_a_server_that_says_nothing(run_here: RunHere) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        error, _ = lines(run_here("ping", "--uri", uri, "--timeout", "0.2"))
    assert uri in error


def test_a_key_is_wanted_and_there_is_none(run_here: RunHere, guarded: str, home: Path) -> None:
    error, hint = lines(run_here("ping", "--uri", guarded))
    assert error == (
        "the server asks 'alice' for a signature, but there is no private key: there is none in ~/.ssh"
    )
    assert "--key FILE" in hint
    assert run_here("config", "init", "--no-auth", "--uri", guarded).code == 0
    error, _ = lines(run_here("ping"))
    assert error.endswith(f"enable_auth is false in {home}/.pie/cli_config.toml")


def test_the_default_key_is_used(run_here: RunHere, guarded: str, home: Path, key_file: Path) -> None:
    (home / ".ssh").mkdir()
    shutil.copy(key_file, home / ".ssh")  # with its mode
    assert run_here("ping", "--uri", guarded).code == 0


def test_a_name_that_the_server_does_not_know(run_here: RunHere, guarded: str, key_file: Path) -> None:
    error, hint = lines(run_here("ping", "--uri", guarded, "--key", key_file, PIE_USERNAME="eve"))
    assert error == (
        "the server refuses 'eve': User 'eve' is not authorized (name from PIE_USERNAME, key from --key)"
    )
    assert hint.startswith("--username NAME and --key FILE")


def test_a_key_that_is_none(run_here: RunHere, guarded: str, home: Path) -> None:
    (home / "key").write_text("not really")
    (home / "key").chmod(0o600)
    error, hint = lines(run_here("ping", "--uri", guarded, "--key", "key"))
    assert error.startswith("key: ")
    assert "`pie-sync config show`" in hint


def test_a_passphrase_is_asked_for_when_it_is_needed(lonely_pie: CommandLine, tmp_path: Path) -> None:
    key = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-f", key], check=True)
    lonely_pie.environment["PIE_KEY"] = str(key)
    with LocalServer(users={"alice": key.with_suffix(".pub").read_text()}) as server:
        lonely_pie.environment["PIE_URI"] = server.uri
        terminal = lonely_pie.spawn("ping")
        terminal.expect_exact(f"Passphrase for {key}: ")
        terminal.sendline("wrong")
        terminal.expect_exact("That was not it.\r\n")
        terminal.expect_exact(f"Passphrase for {key}: ")
        terminal.sendline("open sesame")
        terminal.expect_exact(" ms, instance protocol")
        assert end_of(terminal) == 0
        assert "sesame" not in terminal.before

        terminal = lonely_pie.spawn("ping")
        terminal.expect_exact("Passphrase")
        terminal.send(CTRL_D)
        assert end_of(terminal) == 1
        assert f"error: {key}: the private key is encrypted, and no passphrase was given" in terminal.before

        done = lonely_pie("ping")
        assert done.returncode == 1
        assert "no terminal to ask for its passphrase" in done.stderr
    with LocalServer() as server:  # which lets everybody in: no passphrase is needed
        assert lonely_pie("ping", "--uri", server.uri).returncode == 0


def test_three_wrong_passphrases(lonely_pie: CommandLine, tmp_path: Path) -> None:
    key = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-f", key], check=True)
    with LocalServer(users={"alice": key.with_suffix(".pub").read_text()}) as server:
        terminal = lonely_pie.spawn("ping", "--uri", server.uri, "--key", key)
        for _ in range(3):
            terminal.expect_exact(f"Passphrase for {key}: ")
            terminal.sendline("wrong")
        assert end_of(terminal) == 1
        assert f"error: {key}: " in terminal.before
        assert "hint: --key FILE takes another private key" in terminal.before
