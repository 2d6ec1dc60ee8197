"""Who gets in, and what happens to those who don't."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pie_sync.testing import LocalServer

from .conftest import Connect
from .raw import RawClient

Sign = Callable[[bytes], bytes]

ED25519 = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())

SIGNERS: dict[str, tuple[object, Sign]] = {
    "ed25519": (ED25519, ED25519.sign),
    "rsa": (RSA, lambda data: RSA.sign(data, padding.PKCS1v15(), hashes.SHA256())),
    "p256": (P256, lambda data: P256.sign(data, ec.ECDSA(hashes.SHA256()))),
    "p384": (P384, lambda data: P384.sign(data, ec.ECDSA(hashes.SHA384()))),
}


def public_line(private_key: object, comment: str = "") -> str:
    public = private_key.public_key()  # type: ignore[attr-defined]
    return (public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + " " + comment).strip()


def challenge_of(client: RawClient, username: str) -> bytes:
    answer = client.request("identification", username=username)
    assert answer["type"] == "response"
    assert answer["successful"], answer
    return base64.b64decode(answer["result"], validate=True)


def prove(client: RawClient, signature: bytes) -> bool:
    answer = client.request("signature", signature=base64.b64encode(signature).decode())
    assert answer["type"] == "response"
    return bool(answer["successful"])


def test_without_users_every_name_is_let_in(connect: Connect) -> None:
    client = connect(None)
    answer = client.request("identification", username="anybody")
    assert answer["successful"]
    assert answer["result"] == "Authenticated (Engine disabled authentication)"
    assert client.statuses() == {}


@pytest.mark.parametrize("kind", SIGNERS)
def test_a_signed_challenge_lets_in(connect: Connect, kind: str) -> None:
    key, sign = SIGNERS[kind]
    with LocalServer(users={"alice": public_line(key, "alice@example")}) as server:
        client = connect(None, to=server)
        challenge = challenge_of(client, "alice")
        assert len(challenge) == 48
        assert prove(client, sign(challenge))
        assert client.statuses() == {}


def test_one_user_may_have_several_keys(connect: Connect) -> None:
    first, second = public_line(ED25519), public_line(P256)
    users = {"text": f"# keys\n{first}\n\n{second}\n", "list": [first, second], "nobody": []}
    with LocalServer(users) as server:
        for username in ("text", "list"):
            for kind in ("ed25519", "p256"):
                client = connect(None, to=server)
                assert prove(client, SIGNERS[kind][1](challenge_of(client, username)))
        client = connect(None, to=server)
        assert not prove(client, ED25519.sign(challenge_of(client, "nobody")))


@pytest.mark.parametrize("kind", SIGNERS)
def test_a_wrong_signature_is_refused_and_the_challenge_used_up(connect: Connect, kind: str) -> None:
    key, sign = SIGNERS[kind]
    with LocalServer(users={"alice": public_line(key)}) as server:
        client = connect(None, to=server)
        challenge = challenge_of(client, "alice")
        assert not prove(client, sign(challenge + b"."))
        assert not prove(client, sign(challenge))
        # Still not in, but free to try again.
        again = challenge_of(client, "alice")
        assert again != challenge
        assert prove(client, sign(again))


@pytest.mark.parametrize("signature", ["", "AAAA", "not base64!", "é"])
def test_a_signature_that_is_none_is_refused(connect: Connect, signature: str) -> None:
    with LocalServer(users={"alice": [public_line(key) for key, _ in SIGNERS.values()]}) as server:
        client = connect(None, to=server)
        challenge_of(client, "alice")
        assert not client.request("signature", signature=signature)["successful"]


def test_an_unknown_user_is_refused(connect: Connect) -> None:
    with LocalServer(users={"alice": public_line(ED25519)}) as server:
        client = connect(None, to=server)
        answer = client.request("identification", username="mallory")
        assert answer["type"] == "response"
        assert not answer["successful"]
        assert not prove(client, ED25519.sign(b"anything"))
        client.send("list_instances", corr_id=9)
        client.assert_closed()


def test_the_key_of_another_user_does_not_help(connect: Connect) -> None:
    with LocalServer(users={"alice": public_line(ED25519), "bob": public_line(P256)}) as server:
        client = connect(None, to=server)
        assert not prove(client, P256.sign(challenge_of(client, "alice"), ec.ECDSA(hashes.SHA256())))


def test_the_challenge_can_come_in_a_message_of_its_own(connect: Connect) -> None:
    with LocalServer(users={"alice": public_line(ED25519)}, challenge_message=True) as server:
        client = connect(None, to=server)
        answer = client.request("identification", username="alice", corr_id=7)
        challenge = base64.b64decode(answer.pop("challenge"), validate=True)
        assert answer == {"type": "challenge", "corr_id": 7}
        assert prove(client, ED25519.sign(challenge))


def test_the_internal_token_lets_in(connect: Connect) -> None:
    with LocalServer(users={}, internal_token="secret") as server:
        client = connect(None, to=server)
        answer = client.request("internal_authenticate", token="secret")
        assert (answer["type"], answer["successful"]) == ("response", True)
        assert client.statuses() == {}


@pytest.mark.parametrize("expected", ["secret", None])
def test_a_wrong_token_is_refused_after_a_second_and_the_server_hangs_up(
    connect: Connect, expected: str | None
) -> None:
    with LocalServer(internal_token=expected) as server:
        client = connect(None, to=server)
        started = time.monotonic()
        answer = client.request("internal_authenticate", token="guess")
        assert time.monotonic() - started >= 1
        assert not answer["successful"]
        client.assert_closed()


def test_the_delay_of_a_refusal_does_not_delay_the_servers_end(connect: Connect) -> None:
    with LocalServer(internal_token="secret") as server:
        client = connect(None, to=server)
        client.send("internal_authenticate", corr_id=1, token="guess")
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "message",
    [
        {"type": "ping"},
        {"type": "list_instances"},
        {"type": "query", "subject": "backend_stats", "record": ""},
        {"type": "launch_instance_from_registry", "inferlet": "x", "arguments": [], "detached": False},
        {"type": "signal_instance", "instance_id": "x", "message": ""},
    ],
    ids=lambda message: message["type"],
)
@pytest.mark.parametrize("users", [None, {}])
def test_the_server_hangs_up_on_the_unauthenticated(
    connect: Connect, users: dict[str, str] | None, message: dict[str, object]
) -> None:
    with LocalServer(users) as server:
        client = connect(None, to=server)
        client.send(corr_id=1, kind=message["type"], **{k: v for k, v in message.items() if k != "type"})
        client.assert_closed()


def test_what_it_cannot_decode_it_ignores_from_the_unauthenticated_too(connect: Connect) -> None:
    client = connect(None)
    client.send("auth_identify", corr_id=1, username="alice")
    client.send_bytes(b"\xc1")
    client.socket.send("text")
    answer = client.request("identification", username="alice", corr_id=2)
    assert (answer["type"], answer["corr_id"]) == ("response", 2)


@pytest.mark.parametrize(
    "message",
    [
        {"kind": "identification", "username": "bob"},
        {"kind": "signature", "signature": ""},
        {"kind": "internal_authenticate", "token": "wrong"},
    ],
    ids=lambda message: message["kind"],
)
def test_once_is_enough(client: RawClient, message: dict[str, str]) -> None:
    assert client.request(**message)["result"] == "Already authenticated"
    client.assert_unanswered()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no key",
        "ssh-ed25519 AAAA",
        public_line(ec.generate_private_key(ec.SECP521R1())),
        public_line(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
    ],
    ids=["empty", "garbage", "cut", "P-521", "weak RSA"],
)
def test_key_lines_that_cannot_be_used(line: str) -> None:
    if not line:
        LocalServer(users={"alice": line})  # a user without a key, who can't get in
        return
    with pytest.raises(ValueError, match="alice"):
        LocalServer(users={"alice": [public_line(ED25519), line]})
