"""Authentication on the instance protocol."""

from __future__ import annotations

import base64
import subprocess
import threading
import time
from functools import partial

import pytest

from pie_sync import (
    AuthenticationError,
    ParsedPrivateKey,
    PieClient,
    PieConnectionError,
    PieTimeoutError,
    ProtocolError,
)
from pie_sync.testing import LocalServer
from tests.faults.threads import wait_until
from tests.scripted import Peer, connect, scripted_server, wait_for_close


class TestAuthentication:
    def test_without_keys(self, server):
        with PieClient(server.uri) as client:
            with pytest.raises(AuthenticationError, match=r"ping: authenticate first: client\.authenticate"):
                client.ping()
            client.authenticate("alice")
            client.authenticate("alice")
            with pytest.raises(
                AuthenticationError, match="already authenticated as 'alice': use another PieClient"
            ):
                client.authenticate("bob")
            assert client.ping() > 0

    @pytest.mark.parametrize("challenge_message", [False, True])
    def test_with_keys(self, private_key, key_file, challenge_message):
        users = {"alice": key_file.with_suffix(".pub").read_text()}
        with (
            LocalServer(users=users, challenge_message=challenge_message) as server,
            PieClient(server.uri) as client,
        ):
            with pytest.raises(AuthenticationError, match="refuses 'mallory'"):
                client.authenticate("mallory", private_key)
            with pytest.raises(AuthenticationError, match="private_key=ParsedPrivateKey"):
                client.authenticate("alice")
            client.authenticate("alice", private_key)
            assert client.ping() > 0

    def test_with_the_wrong_key(self, key_file, tmp_path):
        other = tmp_path / "other"
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", other], check=True)
        users = {"alice": key_file.with_suffix(".pub").read_text()}
        with LocalServer(users=users) as server, PieClient(server.uri) as client:
            with pytest.raises(AuthenticationError, match="refuses the signature for 'alice'"):
                client.authenticate("alice", ParsedPrivateKey.from_file(other))

    @pytest.mark.parametrize("kind", ["rsa", "ed25519", "ecdsa -b 256", "ecdsa -b 384"])
    def test_every_kind_of_key(self, kind, tmp_path):
        path = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", *kind.split(), "-N", "", "-f", path], check=True)
        users = {"alice": path.with_suffix(".pub").read_text()}
        with LocalServer(users=users) as server, PieClient(server.uri) as client:
            client.authenticate("alice", ParsedPrivateKey.from_file(path))
            assert client.ping() > 0

    def test_the_path_of_a_key(self, key_file):
        users = {"alice": key_file.with_suffix(".pub").read_text()}
        for path in (key_file, str(key_file)):
            with LocalServer(users=users) as server, PieClient(server.uri) as client:
                client.authenticate("alice", path)
                assert client.ping() > 0

    def test_what_is_no_key(self, server):
        with PieClient(server.uri) as client:
            with pytest.raises(TypeError, match=r"ParsedPrivateKey\.from_file\(path\)"):
                client.authenticate("alice", 5)

    def test_internal(self):
        with LocalServer(internal_token="the token") as server, PieClient(server.uri) as client:
            client.internal_authenticate("the token")
            assert client.ping() > 0
            with pytest.raises(AuthenticationError, match="already authenticated"):
                client.internal_authenticate("the token")

    @pytest.mark.parametrize("host", ["192.0.2.1", "pie.example", "[2001:db8::1]", "localhost.example"])
    def test_internal_in_plain_text_to_another_machine(self, host):
        client = PieClient(f"ws://{host}:8080")
        with pytest.raises(AuthenticationError, match="readable on its way.*allow_insecure_token=True") as caught:
            client.internal_authenticate("the token")
        assert "the token" not in str(caught.value).replace("the token would", "")
        with pytest.raises(PieConnectionError, match="not connected"):
            client.internal_authenticate("the token", allow_insecure_token=True)

    @pytest.mark.parametrize("uri", ["ws://127.8.9.1", "ws://[::1]:80", "ws://localhost:80", "wss://pie.example"])
    def test_internal_where_nobody_listens_in(self, uri):
        with pytest.raises(PieConnectionError, match="not connected"):
            PieClient(uri).internal_authenticate("the token")

    def test_internal_with_the_wrong_token(self):
        with LocalServer(internal_token="the token") as server, PieClient(server.uri) as client:
            with pytest.raises(AuthenticationError, match="refuses the token") as caught:
                client.internal_authenticate("not the token")
            assert "not the token" not in str(caught.value)
            with pytest.raises((AuthenticationError, PieConnectionError)):
                client.ping()


class TestChallenges:
    @pytest.mark.parametrize("kind", ["response", "challenge"])
    @pytest.mark.parametrize("size", [0, 1, 15, 65, 130, 10_000])
    def test_challenges_of_other_lengths_are_not_signed(self, kind, size, private_key):
        told = []

        def script(peer: Peer) -> None:
            request = peer.receive()
            challenge = base64.b64encode(b"x" * size).decode()
            if kind == "challenge":
                peer.send(type="challenge", corr_id=request["corr_id"], challenge=challenge)
            else:
                peer.respond(request, challenge)
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            with pytest.raises(ProtocolError, match=f"{size} bytes; nothing was signed") as caught:
                client.authenticate("alice", private_key)
            told.append(caught.value)
            with pytest.raises(AuthenticationError, match="authenticate first"):
                client.ping()
        assert told

    @pytest.mark.parametrize("size", [16, 48, 64])
    def test_challenges_of_these_lengths_are_signed_raw(self, size, private_key, key_file):
        from cryptography.hazmat.primitives.serialization import load_ssh_public_key

        challenge = bytes(range(size))
        signatures = []

        def script(peer: Peer) -> None:
            peer.respond(peer.receive(), base64.b64encode(challenge).decode())
            request = peer.receive()
            signatures.append(base64.b64decode(request["signature"]))
            peer.respond(request, "Authenticated")
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            client.authenticate("alice", private_key)
        public_key = load_ssh_public_key(key_file.with_suffix(".pub").read_bytes())
        public_key.verify(signatures[0], challenge)

    def test_a_challenge_that_is_not_base64(self, private_key):
        def script(peer: Peer) -> None:
            peer.respond(peer.receive(), "not base64!")
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            with pytest.raises(ProtocolError, match="not base64; nothing was signed"):
                client.authenticate("alice", private_key)

    def test_already_authenticated(self, private_key):
        def script(peer: Peer) -> None:
            peer.respond(peer.receive(), "Already authenticated")
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            with pytest.raises(AuthenticationError, match="authenticated already"):
                client.authenticate("alice", private_key)

    def test_the_time_limit_is_for_both_steps_together(self, private_key):
        def script(peer: Peer) -> None:
            peer.respond(peer.receive(), base64.b64encode(b"x" * 48).decode())
            peer.receive()
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            begin = time.monotonic()
            with pytest.raises(PieTimeoutError):
                client.authenticate("alice", private_key, timeout=0.5)
            assert 0.4 < time.monotonic() - begin < 5


class TestASecondAttempt:
    """Servers up to 0.2 end the connection behind a refusal, and if no signature follows a challenge."""

    @staticmethod
    def serve(connections, peer: Peer) -> None:
        """Serve one connection as those servers do."""
        requests: list[str] = []
        connections.append(requests)
        while True:
            request = peer.receive()
            requests.append(request["type"])
            if request["type"] == "identification" and len(requests) == 1:
                if request["username"] == "mallory":
                    peer.respond(request, "User 'mallory' is not authorized", successful=False)
                    return
                peer.respond(request, base64.b64encode(b"x" * 48).decode())
            elif request["type"] == "signature" and requests == ["identification", "signature"]:
                is_right = request["signature"] == base64.b64encode(b"right").decode()
                peer.respond(request, "Authenticated" if is_right else "Wrong", successful=is_right)
                if not is_right:
                    return
            elif request["type"] == "ping" and "signature" in requests:
                peer.respond(request, "Pong")
            else:
                return

    @pytest.mark.parametrize("reconnect", [False, True])
    @pytest.mark.parametrize("waits", [False, True], ids=["at once", "when the server has hung up"])
    def test_connects_anew_by_itself(self, waits, reconnect):
        class Key:
            def __init__(self, signature: bytes) -> None:
                self.signature = signature

            def sign(self, challenge: bytes) -> bytes:
                return self.signature

        connections: list[list[str]] = []
        with scripted_server(partial(self.serve, connections)) as uri, connect(uri, reconnect=reconnect) as client:
            for username, key, error in [
                ("mallory", None, "not authorized"),
                ("alice", None, "pass private_key="),
                ("alice", Key(b"wrong"), "refuses the signature"),
                ("alice", None, "pass private_key="),
            ]:
                with pytest.raises(AuthenticationError, match=error):
                    client.authenticate(username, key)
                if waits and not reconnect and username == "mallory":
                    wait_until(lambda: client.closed)
            client.authenticate("alice", Key(b"right"))
            assert client.ping() > 0
        assert [requests for requests in connections if requests] == [
            ["identification"],
            ["identification"],
            ["identification", "signature"],
            ["identification"],
            ["identification", "signature", "ping"],
        ]

    def test_many_threads_at_once_make_one_connection(self):
        connections: list[list[str]] = []
        with scripted_server(partial(self.serve, connections)) as uri, connect(uri) as client:
            with pytest.raises(AuthenticationError):
                client.authenticate("alice")
            outcomes: list[object] = []

            def attempt() -> None:
                outcomes.append(client._manager.unauthenticated("authenticate").session)

            threads = [threading.Thread(target=attempt) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            assert len(outcomes) == 8
            assert len(set(map(id, outcomes))) == 1
            wait_until(lambda: len(connections) == 2)
