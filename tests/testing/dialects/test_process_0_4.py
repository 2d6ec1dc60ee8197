"""The process protocol of Pie 0.3 and 0.4: authentication, and processes that outlive their connection."""

from __future__ import annotations

import base64
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pie_sync.testing import LocalServer
from tests.testing.conftest import Connect
from tests.testing.raw_process import ProcessClient, upgrade


@pytest.fixture
def protocol() -> str:
    return "process"


KEY = ed25519.Ed25519PrivateKey.generate()
USERS = {"alice": KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()}


ALREADY = "Already authenticated"


def prove(client: ProcessClient, signature: bytes) -> tuple[bool, str]:
    return client.ask("auth_prove", signature=base64.b64encode(signature).decode())


def test_without_users_every_name_is_let_in(connect: Connect) -> None:
    client = connect(None)
    answer = client.ask("auth_identify", username="anybody")
    assert answer == (True, "Authenticated (Engine disabled authentication)")
    assert client.list() == []


def test_a_signed_challenge_lets_in(connect: Connect) -> None:
    with LocalServer(USERS, protocol="process") as server:
        client = connect(None, to=server)
        ok, challenge = client.ask("auth_identify", username="alice")
        assert ok
        assert len(base64.b64decode(challenge, validate=True)) == 48
        assert not prove(client, KEY.sign(b"another"))[0]
        ok, challenge = client.ask("auth_identify", username="alice")
        assert prove(client, KEY.sign(base64.b64decode(challenge)))[0]
        assert client.list() == []


def test_an_unknown_user_is_refused(connect: Connect) -> None:
    with LocalServer(USERS, protocol="process") as server:
        client = connect(None, to=server)
        assert not client.ask("auth_identify", username="mallory")[0]
        assert prove(client, KEY.sign(b"anything")) == (False, "No pending authentication")


def test_the_internal_token(connect: Connect) -> None:
    with LocalServer({}, internal_token="secret", protocol="process") as server:
        client = connect(None, to=server)
        assert client.ask("auth_by_token", token="secret")[0]
        assert client.list() == []
        stranger = connect(None, to=server)
        started = time.monotonic()
        assert not stranger.ask("auth_by_token", token="guess")[0]
        assert time.monotonic() - started >= 1
        assert stranger.ask("auth_by_token", token="secret")[0]
        assert stranger.list() == []


@pytest.mark.parametrize(
    "message",
    [
        {"kind": "ping"},
        {"kind": "list_processes"},
        {"kind": "query", "subject": "model_status", "record": ""},
        {"kind": "launch_process", "inferlet": "x", "input": "{}", "capture_outputs": True},
        {"kind": "signal_process", "process_id": "x", "message": ""},
    ],
    ids=lambda message: message["kind"],
)
def test_the_server_ignores_the_unauthenticated(connect: Connect, message: dict[str, object]) -> None:
    client = connect(None)
    client.send(corr_id=1, **message)
    assert client.request("auth_identify", corr_id=2, username="alice")["corr_id"] == 2
    assert not client._kept


def test_the_other_generations_messages_are_ignored(connect: Connect) -> None:
    client = connect(None)
    client.send("identification", corr_id=1, username="alice")
    client.send_bytes(b"\xc1")
    client.socket.send('{"type": "ping", "corr_id": 1}')
    answer = client.request("auth_identify", corr_id=2, username="alice")
    assert (answer["corr_id"], answer["ok"]) == (2, True)
    client.send("list_instances", corr_id=3)
    client.assert_unanswered()


@pytest.mark.parametrize(
    "message",
    [
        {"kind": "auth_identify", "username": "bob"},
        {"kind": "auth_prove", "signature": ""},
        {"kind": "auth_by_token", "token": "wrong"},
    ],
    ids=lambda message: message["kind"],
)
def test_once_is_enough(client: ProcessClient, message: dict[str, str]) -> None:
    assert client.ask(**message) == (message["kind"] != "auth_prove", ALREADY)
    client.assert_unanswered()


@pytest.mark.parametrize("path", ["/", "/v1/ws", "/any/path?a=b"])
def test_before_0_5_every_path_will_do(server: LocalServer, path: str) -> None:
    assert upgrade(server, path, {}) == (101, b"")


@pytest.mark.parametrize("vanish", [False, True], ids=["closed", "lost"])
def test_losing_the_connection_leaves_processes_bound_to_it(connect: Connect, repeat: str, vanish: bool) -> None:
    first, second = connect(), connect()
    process_id = first.launch(repeat)
    first.signal(process_id, "one")
    assert [first.event(), first.event()] == [("stdout", "one"), ("message", "one")]
    first.vanish() if vanish else first.close()
    assert second.attach(process_id) == (False, "Process not found")
    assert [info["id"] for info in second.list()] == [process_id]
    assert second.terminate(process_id) == (True, "Process terminated")
    assert second.list() == []
