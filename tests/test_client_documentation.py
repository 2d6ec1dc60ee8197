"""Pie's own client documentation, section by section, without ``async`` and ``await``.

What it shows must work here with nothing else changed than those words and the name of the package. (Page "Python
Client" of the documentation for Pie 0.2.)
"""

from __future__ import annotations

import subprocess

import pytest

from pie_sync import Event, ParsedPrivateKey, PieClient, PieError
from pie_sync.testing import LocalServer
from tests.programs import HELLO, add_programs


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory with an SSH key in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir(mode=0o700)
    path = tmp_path / ".ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return tmp_path


@pytest.fixture
def server(home):
    public_key = (home / ".ssh" / "id_ed25519.pub").read_text()
    with LocalServer(users={"username": public_key}) as server:
        add_programs(server)
        yield server


def test_quick_start(server, home):
    path = home / "my_program.wasm"
    path.write_bytes(HELLO)

    with PieClient(server.uri) as client:
        key = ParsedPrivateKey.from_file("~/.ssh/id_ed25519")
        client.authenticate("username", key)

        with open(path, "rb") as f:
            client.upload_program(f.read())

        import blake3

        program_hash = blake3.blake3(path.read_bytes()).hexdigest()
        instance = client.launch_instance(program_hash)

        instance.send("hello")
        event, message = instance.recv()
        assert f"Received: {event.name} - {message}" == "Received: Completed - "


def test_authentication_disabled():
    with LocalServer() as server, PieClient(server.uri) as client:
        client.authenticate("any_username")


def test_methods(server):
    with PieClient(server.uri) as client:
        client.authenticate("username", ParsedPrivateKey.from_file("~/.ssh/id_ed25519"))
        program_hash = client.upload_program(HELLO)
        assert client.program_exists(program_hash)
        instance = client.launch_instance(program_hash, args=["world"], detached=False)
        assert instance.recv() == (Event.Stdout, "Hello, ")
        instance = client.launch_instance_from_registry("std/echo@latest", args=[], detached=True)
        instance = client.attach_instance(instance.id)
        assert instance.id in [info.id for info in client.list_instances()]
        client.terminate_instance(instance.id)
        client.ping()
        successful, result = client.query("program_exists", program_hash)
        assert (successful, result) == (True, "true")


def test_event_loop(server):
    with PieClient(server.uri) as client:
        client.authenticate("username", ParsedPrivateKey.from_file("~/.ssh/id_ed25519"))
        instance = client.launch_instance_from_registry("talk", ["a"])
        seen = []
        while True:
            event, message = instance.recv()
            if event == Event.Stdout:
                seen.append(("stdout", message))
            elif event == Event.Stderr:
                seen.append(("stderr", message))
            elif event == Event.Message:
                seen.append(("message", message))
            elif event == Event.Blob:
                seen.append(("blob", len(message)))
            elif event == Event.Completed:
                seen.append(("completed", message))
                break
            elif event in (Event.Aborted, Event.Exception, Event.ServerError, Event.OutOfResources):
                pytest.fail(f"{event}: {message}")
        assert seen[-1] == ("completed", "a")
        assert len(seen) == 7


def test_keys_from_text(home):
    content = (home / ".ssh" / "id_ed25519").read_text()
    assert ParsedPrivateKey.parse(content).sign(b"x") == ParsedPrivateKey.from_file("~/.ssh/id_ed25519").sign(b"x")


def test_detached_mode(server):
    key = ParsedPrivateKey.from_file("~/.ssh/id_ed25519")
    with PieClient(server.uri) as client:
        client.authenticate("username", key)
        instance = client.launch_instance_from_registry("talk", ["later"], detached=True)
        instance_id = instance.id
    with PieClient(server.uri) as client:
        client.authenticate("username", key)
        instance = client.attach_instance(instance_id)
        assert [event for event, _ in instance][-1] is Event.Completed


def test_error_handling(server):
    """Each of the two ``except`` clauses is reached by its own kind."""

    def attempt(uri: str) -> str:
        try:
            with PieClient(uri) as client:
                client.authenticate("username", ParsedPrivateKey.from_file("~/.ssh/id_ed25519"))
                client.launch_instance_from_registry("no-such-program")
        except PieError:
            return "PieError"
        except ConnectionError:
            return "ConnectionError"
        return "no error"

    def attempt_the_other_way_round(uri: str) -> str:
        try:
            with PieClient(uri) as client:
                client.authenticate("username", ParsedPrivateKey.from_file("~/.ssh/id_ed25519"))
                client.launch_instance_from_registry("no-such-program")
        except ConnectionError:
            return "ConnectionError"
        except PieError:
            return "PieError"
        return "no error"

    for run in (attempt, attempt_the_other_way_round):
        assert run(server.uri) == "PieError"
        assert run("ws://127.0.0.1:1") == "ConnectionError"


def test_the_error_handling_of_the_page_itself(server):
    """Its example launches ``"invalid_hash"``, and expects a PieError."""

    def attempt():
        try:
            with PieClient(server.uri) as client:
                client.authenticate("username", ParsedPrivateKey.from_file("~/.ssh/id_ed25519"))
                client.launch_instance("invalid_hash")
        except PieError as error:
            return str(error)

    assert "64 hexadecimal digits" in attempt()
