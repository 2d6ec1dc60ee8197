"""Who gets in: on 0.3 and 0.4 whoever proves it, on 0.5 everybody."""

from __future__ import annotations

import base64
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pie_sync.testing import LocalServer

from .conftest import Connect
from .raw import ProcessClient

KEY = ed25519.Ed25519PrivateKey.generate()
USERS = {"alice": KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()}
ALREADY = "Already authenticated"

only_0_4 = pytest.mark.parametrize("flavour", ["process"])
only_0_5 = pytest.mark.parametrize("flavour", ["process-0.5"])


def prove(client: ProcessClient, signature: bytes) -> tuple[bool, str]:
    return client.ask("auth_prove", signature=base64.b64encode(signature).decode())


@only_0_4
def test_without_users_every_name_is_let_in(connect: Connect) -> None:
    client = connect(None)
    answer = client.ask("auth_identify", username="anybody")
    assert answer == (True, "Authenticated (Engine disabled authentication)")
    assert client.list() == []


@only_0_4
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


@only_0_4
def test_an_unknown_user_is_refused(connect: Connect) -> None:
    with LocalServer(USERS, protocol="process") as server:
        client = connect(None, to=server)
        assert not client.ask("auth_identify", username="mallory")[0]
        assert not prove(client, KEY.sign(b"anything"))[0]
        client.send("list_processes", corr_id=9)
        client.assert_closed()


@only_0_4
def test_the_internal_token(connect: Connect) -> None:
    with LocalServer({}, internal_token="secret", protocol="process") as server:
        client = connect(None, to=server)
        assert client.ask("auth_by_token", token="secret")[0]
        assert client.list() == []
        stranger = connect(None, to=server)
        started = time.monotonic()
        assert not stranger.ask("auth_by_token", token="guess")[0]
        assert time.monotonic() - started >= 1
        stranger.assert_closed()


@only_0_4
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
def test_the_server_hangs_up_on_the_unauthenticated(connect: Connect, message: dict[str, object]) -> None:
    client = connect(None)
    client.send(corr_id=1, **message)
    client.assert_closed()


@only_0_4
def test_the_other_generations_messages_are_ignored(connect: Connect) -> None:
    client = connect(None)
    client.send("identification", corr_id=1, username="alice")
    client.send_bytes(b"\xc1")
    client.socket.send('{"type": "ping", "corr_id": 1}')
    answer = client.request("auth_identify", corr_id=2, username="alice")
    assert (answer["corr_id"], answer["ok"]) == (2, True)
    client.send("list_instances", corr_id=3)
    client.assert_unanswered()


@only_0_4
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
    assert client.ask(**message) == (True, ALREADY)
    client.assert_unanswered()


@only_0_5
def test_0_5_takes_everybody_in(connect: Connect) -> None:
    client = connect(None)
    assert client.list() == []
    for name in ("alice", "bob"):
        assert client.ask("auth_identify", username=name) == (True, ALREADY)
    assert client.ask("auth_prove", signature="") == (False, ALREADY)


@only_0_5
def test_0_5_knows_no_token(client: ProcessClient) -> None:
    client.send("auth_by_token", corr_id=9, token="secret")
    assert client.receive()["text"]["message"].startswith("bad client frame: unknown variant `auth_by_token`")
    client.assert_unanswered()


@pytest.mark.parametrize("options", [{"users": {}}, {"internal_token": "secret"}], ids=["users", "token"])
def test_0_5_can_not_be_told_whom_to_let_in(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="authenticates nobody"):
        LocalServer(protocol="process-0.5", **options)
