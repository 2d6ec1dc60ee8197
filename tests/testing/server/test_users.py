"""Users and their keys, and the internal token."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pie_sync.testing import LocalServer
from tests.testing.conftest import Connect
from tests.testing.keys import public_line
from tests.testing.raw import RawClient

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

#: A public key alone: nobody signs with it, and to make a real one would take minutes.
RSA_8192 = (
    rsa.RSAPublicNumbers(65537, (1 << 8191) | 1)
    .public_key()
    .public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    .decode()
)


def challenge_of(client: RawClient, username: str) -> bytes:
    answer = client.request("identification", username=username)
    assert answer["type"] == "response"
    assert answer["successful"], answer
    return base64.b64decode(answer["result"], validate=True)


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
        assert client.prove(sign(challenge))
        assert client.statuses() == {}


def test_one_user_may_have_several_keys(connect: Connect) -> None:
    first, second = public_line(ED25519), public_line(P256)
    users = {"text": f"# keys\n{first}\n\n{second}\n", "list": [first, second], "nobody": []}
    with LocalServer(users) as server:
        for username in ("text", "list"):
            for kind in ("ed25519", "p256"):
                client = connect(None, to=server)
                assert client.prove(SIGNERS[kind][1](challenge_of(client, username)))
        client = connect(None, to=server)
        assert not client.prove(ED25519.sign(challenge_of(client, "nobody")))


@pytest.mark.parametrize("kind", SIGNERS)
def test_a_wrong_signature_ends_the_connection(connect: Connect, kind: str) -> None:
    key, sign = SIGNERS[kind]
    with LocalServer(users={"alice": public_line(key)}) as server:
        client = connect(None, to=server)
        challenge = challenge_of(client, "alice")
        assert not client.prove(sign(challenge + b"."))
        client.assert_closed()
        again = connect(None, to=server)
        other_challenge = challenge_of(again, "alice")
        assert other_challenge != challenge
        assert again.prove(sign(other_challenge))


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
        client.assert_closed()


def test_the_key_of_another_user_does_not_help(connect: Connect) -> None:
    with LocalServer(users={"alice": public_line(ED25519), "bob": public_line(P256)}) as server:
        client = connect(None, to=server)
        assert not client.prove(P256.sign(challenge_of(client, "alice"), ec.ECDSA(hashes.SHA256())))


def test_the_internal_token_lets_in(connect: Connect) -> None:
    with LocalServer(users={}, internal_token="secret") as server:
        client = connect(None, to=server)
        answer = client.request("internal_authenticate", token="secret")
        assert (answer["type"], answer["successful"]) == ("response", True)
        assert client.statuses() == {}


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


@pytest.mark.parametrize(("protocol", "bits"), [("0.2", 8192), ("0.3", 4096), ("0.4", 4096)])
def test_the_largest_rsa_key(protocol: str, bits: int) -> None:
    users = {"alice": RSA_8192}
    if bits == 8192:
        LocalServer(users, protocol=protocol)
    else:
        with pytest.raises(ValueError, match="RSA of 2048 to 4096 bits"):
            LocalServer(users, protocol=protocol)
