"""Authentication on the process protocol."""

from __future__ import annotations

import base64
import time

import msgpack
import pytest

from pie_sync import (
    AuthenticationError,
    PieClient,
)
from pie_sync.testing import LocalServer
from tests.connection.process import (
    PATIENCE,
    only_0_5,
)
from tests.scripted import Peer, connect, scripted_server, wait_for_close


class TestAuthentication:
    def test_the_challenge_is_signed(self, key_file, private_key):
        users = {"alice": key_file.with_suffix(".pub").read_text()}
        with LocalServer(users, protocol="process") as server, PieClient(server.uri) as client:
            client.authenticate("alice", private_key)
            assert client.protocol == "process"
            assert client.list_instances() == []

    def test_refusals(self, key_file, private_key):
        users = {"alice": key_file.with_suffix(".pub").read_text(), "bob": []}
        with LocalServer(users, protocol="process") as server:
            for username, key, reason in (
                ("mallory", private_key, "refuses 'mallory': User 'mallory' is not authorized"),
                ("alice", None, "wants 'alice' to sign"),
                ("bob", private_key, "refuses the signature for 'bob'"),
            ):
                with PieClient(server.uri) as client, pytest.raises(AuthenticationError, match=reason):
                    client.authenticate(username, key)

    @pytest.mark.parametrize(("bits", "is_hinted"), [(4096, False), (8192, True)])
    def test_a_key_that_0_3_and_0_4_do_not_take(self, bits, is_hinted):
        class Key:
            def sign(self, challenge):
                return bytes(bits // 8)

        def script(peer: Peer) -> None:
            for said in ((True, base64.b64encode(bytes(48)).decode()), (False, "Signature verification failed")):
                request = msgpack.unpackb(peer.connection.recv(20))
                peer.send(type="response", corr_id=request["corr_id"], ok=said[0], result=said[1])
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri, protocol="process") as client:
            with pytest.raises(AuthenticationError, match="Signature verification failed") as refusal:
                client.authenticate("alice", Key())
        assert ("2048 to 4096 bits" in str(refusal.value)) is is_hinted

    def test_before_it_only_0_5_can_be_used(self, server, is_0_5):
        with PieClient(server.uri) as client:
            if is_0_5:
                assert client.list_instances() == []
            else:
                with pytest.raises(AuthenticationError, match="authenticate first"):
                    client.list_instances()

    def test_the_internal_token(self):
        with LocalServer({}, internal_token="secret", protocol="process") as server:
            with PieClient(server.uri) as client:
                client.internal_authenticate("secret")
                assert client.protocol == "process"
                assert client.list_instances() == []
            with PieClient(server.uri) as client, pytest.raises(AuthenticationError, match="refuses the token"):
                client.internal_authenticate("guess")

    @only_0_5
    def test_0_5_has_no_internal_tokens(self, server, requests):
        with PieClient(server.uri) as client, pytest.raises(AuthenticationError, match="no internal tokens"):
            client.internal_authenticate("secret")
        assert requests.messages == []

    @only_0_5
    def test_an_error_in_a_text_frame_fails_the_request_that_it_must_be_about(self, server, caplog):
        # At a path of the user's it isn't known that this is 0.5: it has to say that it does not understand.
        with PieClient(server.uri + "/v1/ws", protocol="process") as client:
            started = time.monotonic()
            with pytest.raises(AuthenticationError, match="does not know internal tokens: bad client frame"):
                client.internal_authenticate("secret", timeout=PATIENCE)
            assert time.monotonic() - started < PATIENCE / 2
            assert any("could not understand" in record.message for record in caplog.records)
            client.authenticate("alice")
            assert client.ping() > 0
