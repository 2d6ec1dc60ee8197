"""A server that wants something signed: it gets a challenge of the right size signed, once, and nothing else."""

from __future__ import annotations

import base64
import threading
from typing import Any, Callable

import pytest

from pie_sync import AuthenticationError, ParsedPrivateKey, PieClient, PieError, PieTimeoutError, ProtocolError
from tests.faults.raw_server import RawPeer, raw_server

CHALLENGE = bytes(range(48))


class WatchedKey:
    """A private key that takes note of what it signs."""

    def __init__(self, key: ParsedPrivateKey) -> None:
        self._key = key
        self.signed: list[bytes] = []

    def sign(self, data: bytes) -> bytes:
        self.signed.append(bytes(data))
        return self._key.sign(data)


@pytest.fixture
def key(private_key) -> WatchedKey:
    return WatchedKey(private_key)


def in_base64(challenge: bytes) -> str:
    return base64.b64encode(challenge).decode()


def challenge(peer: RawPeer, request: dict[str, Any], data: Any, kind: str = "response") -> None:
    """Challenge the client, in either of the two ways."""
    text = in_base64(data) if isinstance(data, bytes) else data
    if kind == "response":
        peer.send(type="response", corr_id=request["corr_id"], successful=True, result=text)
    else:
        peer.send(type="challenge", corr_id=request["corr_id"], challenge=text)


def answer_signatures_and_pings(peer: RawPeer) -> None:
    while True:
        request = peer.receive()
        if request["type"] in ("signature", "ping"):
            peer.respond(request, "Authenticated")


def test_a_key_is_used_once_for_each_authentication(key):
    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        challenge(peer, peer.receive(), CHALLENGE)
        answer_signatures_and_pings(peer)

    with raw_server(serve) as uri:
        for number in (1, 2, 3):
            with PieClient(uri) as client:
                client.authenticate("alice", key)
                client.authenticate("alice", key)
                assert client.ping() > 0
            assert key.signed == [CHALLENGE] * number


@pytest.mark.parametrize("second", ["response", "challenge"])
@pytest.mark.parametrize("first", ["response", "challenge"])
def test_several_challenges_at_once(key, first, second):
    """The first counts."""

    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        request = peer.receive()
        challenge(peer, request, CHALLENGE, first)
        for number in range(20):
            challenge(peer, request, bytes((number,)) * 48, second)
        answer_signatures_and_pings(peer)

    with raw_server(serve) as uri, PieClient(uri) as client:
        client.authenticate("alice", key)
        assert client.ping() > 0
    assert key.signed == [CHALLENGE]


def test_a_challenge_for_each_generation_of_the_protocol(key):
    """The client identifies itself in both, and a server is to answer one of them."""

    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        request = peer.receive()
        for corr_id in (request["corr_id"] - 1, request["corr_id"], request["corr_id"] + 1):
            for fields in ({"successful": True}, {"ok": True}):
                peer.send(type="response", corr_id=corr_id, result=in_base64(CHALLENGE), **fields)
        while True:
            request = peer.receive()
            if request["type"] in ("signature", "auth_prove", "ping"):
                peer.send(type="response", corr_id=request["corr_id"], successful=True, ok=True, result="")

    with raw_server(serve) as uri, PieClient(uri, timeout=5) as client:
        client.authenticate("alice", key)
        assert client.ping() > 0
    assert key.signed == [CHALLENGE]


def test_challenges_as_the_answer_to_a_signature(key):
    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        challenge(peer, peer.receive(), CHALLENGE)
        while True:
            challenge(peer, peer.receive(), bytes(48), "challenge")

    with raw_server(serve) as uri, PieClient(uri) as client:
        with pytest.raises(ProtocolError, match="authenticate.*'challenge'"):
            client.authenticate("alice", key)
        with pytest.raises(AuthenticationError, match="authenticate first"):
            client.ping()
    assert key.signed == [CHALLENGE]


@pytest.mark.parametrize("kind", ["response", "challenge"])
def test_challenges_before_anybody_asked(key, kind):
    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        for corr_id in range(20):
            challenge(peer, {"corr_id": corr_id}, bytes(48), kind)
        peer.wait_until_read()
        told.set()
        peer.authenticate_only()
        answer_signatures_and_pings(peer)

    told = threading.Event()
    with raw_server(serve) as uri, PieClient(uri) as client:
        assert told.wait(10)
        client.authenticate("alice", key)
        assert client.ping() > 0
    assert key.signed == []


CALLS: dict[str, Callable[[PieClient], object]] = {
    "ping": lambda client: client.ping(),
    "query": lambda client: client.query("a", "b"),
    "list_instances": lambda client: client.list_instances(),
    "launch_instance_from_registry": lambda client: client.launch_instance_from_registry("x"),
    "upload_program": lambda client: client.upload_program(b"\0asm"),
}


@pytest.mark.parametrize("call", CALLS)
def test_challenges_after_authentication(key, call):
    """As the answer to another request, they are an error of that request."""

    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        challenge(peer, peer.receive(), CHALLENGE)
        peer.respond(peer.receive(), "Authenticated")
        challenge(peer, peer.receive(), bytes(48), "challenge")
        challenge(peer, {"corr_id": 77}, bytes(48), "challenge")
        answer_signatures_and_pings(peer)

    with raw_server(serve) as uri, PieClient(uri) as client:
        client.authenticate("alice", key)
        with pytest.raises(ProtocolError, match=rf"{call}: the server answered with a 'challenge' message"):
            CALLS[call](client)
        assert client.ping() > 0
    assert key.signed == [CHALLENGE]


@pytest.mark.parametrize(
    "data",
    [
        None,
        5,
        True,
        [in_base64(CHALLENGE)],
        {"challenge": in_base64(CHALLENGE)},
        "",
        " ",
        "====",
        in_base64(CHALLENGE) + "\n",
        " " + in_base64(CHALLENGE),
        in_base64(CHALLENGE).replace("A", "-"),
        in_base64(CHALLENGE) + in_base64(CHALLENGE),
        in_base64(bytes(15)),
        "SSH-2.0-login",
        "ÄÖÜ",
        "\0" * 64,
        in_base64(bytes(32))[:-1],
    ],
)
@pytest.mark.parametrize("kind", ["response", "challenge"])
def test_challenges_that_are_none(key, data, kind):
    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        challenge(peer, peer.receive(), data, kind)
        answer_signatures_and_pings(peer)

    with raw_server(serve) as uri, PieClient(uri, timeout=5) as client:
        with pytest.raises(ProtocolError):
            client.authenticate("alice", key)
        with pytest.raises(AuthenticationError, match="authenticate first"):
            client.ping()
    assert key.signed == []


def test_raw_bytes_as_a_challenge(key):
    """Bytes where the protocol has text: not to be taken for it, however well they would do."""

    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        request = peer.receive()
        peer.send(type="challenge", corr_id=request["corr_id"], challenge=CHALLENGE)
        answer_signatures_and_pings(peer)

    with raw_server(serve) as uri, PieClient(uri, timeout=5) as client:
        with pytest.raises(ProtocolError, match="'challenge' message with a missing or wrong field"):
            client.authenticate("alice", key)
    assert key.signed == []


def test_a_challenge_that_comes_too_late(key):
    may_challenge = threading.Event()
    is_late = iter([True, False])

    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        request = peer.receive()
        if next(is_late):  # on the first connection; the second attempt has one of its own
            assert may_challenge.wait(10)
            challenge(peer, request, bytes(48))
        else:
            challenge(peer, request, CHALLENGE)
        answer_signatures_and_pings(peer)

    with raw_server(serve) as uri, PieClient(uri) as client:
        with pytest.raises(PieTimeoutError):
            client.authenticate("alice", key, timeout=0.1)
        may_challenge.set()
        client.authenticate("alice", key)
    assert key.signed == [CHALLENGE]


def test_threads_that_authenticate_at_once(key):
    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        challenge(peer, peer.receive(), CHALLENGE)
        answer_signatures_and_pings(peer)

    with raw_server(serve) as uri, PieClient(uri) as client:
        failures: list[PieError] = []

        def authenticate() -> None:
            try:
                client.authenticate("alice", key)
            except PieError as error:
                failures.append(error)

        threads = [threading.Thread(target=authenticate) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert not failures
    assert key.signed == [CHALLENGE]
