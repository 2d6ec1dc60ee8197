"""Authentication on the instance protocol."""

from __future__ import annotations

import subprocess

import pytest

from pie_sync import (
    AuthenticationError,
    ParsedPrivateKey,
    PieClient,
    PieConnectionError,
)
from pie_sync.testing import LocalServer


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

    def test_a_path_is_not_a_key(self, server, key_file):
        with PieClient(server.uri) as client:
            with pytest.raises(TypeError, match=r"ParsedPrivateKey\.from_file\(path\)"):
                client.authenticate("alice", str(key_file))

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
