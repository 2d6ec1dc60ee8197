"""Detection of the protocol, paths and identities."""

from __future__ import annotations

import time

import pytest

from pie_sync import (
    PieClient,
    PieConnectionError,
    PieTimeoutError,
)
from pie_sync.testing import LocalServer
from tests.connection.process import (
    PATIENCE,
    SHORT,
    only_0_4,
    only_0_5,
)


class TestDetection:
    @only_0_4
    def test_0_4_shows_in_authenticate(self, server, requests):
        with PieClient(server.uri) as client:
            assert client.protocol is None
            client.authenticate("alice")
            assert client.protocol == "process"
            assert client.ping() > 0
        assert requests.upgrades == [("/", None)]
        assert requests.messages == ["auth_identify", "ping", "ping"]  # the last one goes before the close frame

    @only_0_5
    def test_0_5_shows_in_connect(self, server, requests):
        with PieClient(server.uri) as client:
            assert client.protocol == "process"
            client.authenticate("alice")
            assert client.protocol == "process"
        assert requests.upgrades == [("/", None), ("/v1/ws", "default/pie-sync")]
        assert requests.messages == ["auth_identify"]

    def test_up_to_0_2_it_is_the_other_protocol(self, requests):
        with LocalServer() as server, PieClient(server.uri) as client:
            assert client.protocol is None
            client.authenticate("alice")
            assert client.protocol == "instance"
        assert requests.upgrades == [("/", None)]
        assert requests.messages == ["identification"]

    def test_the_protocol_can_be_told(self, server, requests, is_0_5):
        with PieClient(server.uri, protocol="process") as client:
            assert client.protocol == "process"
            client.authenticate("alice")
            assert client.ping() > 0
        assert [path for path, _ in requests.upgrades] == (["/", "/v1/ws"] if is_0_5 else ["/"])

    def test_the_identity_is_told_where_it_is_wanted(self, server, requests, is_0_5):
        with PieClient(server.uri, identity="tenant/me") as client:
            client.authenticate("alice")
        assert requests.upgrades[0] == ("/", None)
        assert requests.upgrades[1:] == ([("/v1/ws", "tenant/me")] if is_0_5 else [])

    @only_0_5
    def test_the_users_own_header_comes_first(self, server, requests):
        with PieClient(server.uri, headers={"X-Pie-Identity": "mine/own"}) as client:
            client.authenticate("alice")
        assert requests.upgrades[-1] == ("/v1/ws", "mine/own")

    @pytest.mark.parametrize("protocol", ["auto", "process"])
    def test_a_path_is_kept(self, server, requests, is_0_5, protocol):
        path = "/v1/ws" if is_0_5 else "/some/path"
        with PieClient(server.uri + path, protocol=protocol) as client:
            client.authenticate("alice")
            assert client.protocol == "process"
        assert requests.upgrades == [(path, "default/pie-sync" if is_0_5 else None)]

    @only_0_4
    def test_0_4_at_the_path_of_0_5(self, server, requests):
        with PieClient(server.uri + "/v1/ws", protocol="process") as client:
            client.authenticate("alice")
            assert client.ping() > 0
        assert [path for path, _ in requests.upgrades] == ["/v1/ws"]

    @only_0_5
    @pytest.mark.parametrize("protocol", ["auto", "process", "instance"])
    def test_a_wrong_path_is_an_error(self, server, requests, protocol):
        client = PieClient(server.uri + "/elsewhere", protocol=protocol)
        with pytest.raises(PieConnectionError, match="404"):
            client.connect()
        assert [path for path, _ in requests.upgrades] == ["/elsewhere"]

    @only_0_5
    def test_the_instance_protocol_does_not_look_for_0_5(self, server, requests):
        with pytest.raises(PieConnectionError, match="404"):
            PieClient(server.uri, protocol="instance").connect()
        assert requests.upgrades == [("/", None)]

    @only_0_4
    def test_the_wrong_protocol_is_told_within_the_time_limit(self, server):
        with LocalServer() as old_server:
            for uri, protocol in ((server.uri, "instance"), (old_server.uri, "process")):
                with PieClient(uri, protocol=protocol) as client:
                    started = time.monotonic()
                    with pytest.raises(PieTimeoutError, match="authenticate: no answer"):
                        client.authenticate("alice", timeout=SHORT)
                    assert SHORT <= time.monotonic() - started < PATIENCE
