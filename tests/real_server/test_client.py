"""PieClient on the real server: the connection, who we are, and what the server tells of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pie_sync import (
    AuthenticationError,
    Event,
    Instance,
    ParsedPrivateKey,
    PieClient,
    PieConnectionError,
    QueryResult,
)

from . import harness, inferlets

LIMIT = inferlets.EVENT_LIMIT


@pytest.fixture(scope="module")
def uri(real_server: harness.RealServer) -> str:
    with PieClient(real_server.uri) as client:
        inferlets.install(client)
    return real_server.uri


@pytest.fixture
def client(uri: str) -> Iterator[PieClient]:
    with PieClient(uri) as client:
        client.authenticate("alice")
        yield client


class TestConnection:
    @pytest.mark.parametrize("path", ["", "/", "/v1/ws"])
    @pytest.mark.parametrize("protocol", ["auto", "process"])
    def test_finds_the_path_and_the_protocol(self, uri: str, protocol: str, path: str):
        client = PieClient(uri + path, protocol=protocol)
        assert client.protocol is None
        with client:
            assert client.protocol == "process"
            client.authenticate("alice")
            assert client.protocol == "process"
            assert client.ping() > 0
            assert client.server_uri == uri + path
        assert client.closed

    @pytest.mark.parametrize("protocol", ["auto", "process"])
    def test_a_path_of_the_users_is_kept(self, uri: str, protocol: str):
        with pytest.raises(PieConnectionError, match="404"):
            PieClient(uri + "/elsewhere", protocol=protocol).connect()

    def test_it_does_not_speak_the_instance_protocol(self, uri: str):
        with pytest.raises(PieConnectionError, match="404"):
            PieClient(uri, protocol="instance").connect()

    def test_any_identity_will_do(self, uri: str):
        with PieClient(uri, identity="tenant/name") as client:
            assert client.ping() > 0

    def test_an_identity_among_the_headers_is_left_alone(self, uri: str):
        with PieClient(uri, headers={"X-Pie-Identity": "tenant/name"}) as client:
            assert client.ping() > 0

    def test_close_and_connect_again(self, uri: str):
        client = PieClient(uri)
        for _ in range(3):
            with client:
                client.authenticate("alice")
                assert client.launch_instance_from_registry("many", {"count": 1, "size": 1}).wait(LIMIT).messages
            assert client.closed

    def test_eight_threads_share_a_client(self, client: PieClient):
        def work(number: int) -> list[str]:
            heard = []
            for turn in range(5):
                instance = client.launch_instance_from_registry("talk")
                assert instance.recv(LIMIT) == (Event.Message, "ready")
                instance.send(f"{number}.{turn}")
                heard.append(str(instance.recv(LIMIT)[1]))
                instance.send("stop")
                assert instance.wait(LIMIT, check=True).message == '{"stopped": true}'
                client.ping()

                blob = bytes([number, turn]) * 200_000
                instance = client.launch_instance_from_registry("blobs")
                assert instance.recv(LIMIT) == (Event.Message, "waiting")
                assert inferlets.deliver(instance, blob) == (Event.Blob, blob)
                assert instance.wait(LIMIT, check=True).message == "400000"
            return heard

        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(work, range(8)))
        assert results == [[f"heard {number}.{turn}" for turn in range(5)] for number in range(8)]


class TestAuthentication:
    def test_everybody_is_let_in(self, uri: str, private_key: ParsedPrivateKey):
        for name in ("alice", "ä b", ""):
            with PieClient(uri) as client:
                client.authenticate(name)
                client.authenticate(name)
        with PieClient(uri) as client:
            client.authenticate("alice", private_key)

    def test_a_connection_keeps_its_user(self, client: PieClient):
        with pytest.raises(AuthenticationError, match="already authenticated as 'alice'"):
            client.authenticate("bob")
        assert client.ping() > 0

    def test_none_is_needed(self, uri: str):
        with PieClient(uri) as client:
            assert client.launch_instance_from_registry("arguments").wait(LIMIT).event is Event.Completed

    def test_a_path_of_the_users_may_lead_to_an_older_server_that_needs_it(self, uri: str):
        with PieClient(uri + "/v1/ws", protocol="process") as client:
            with pytest.raises(AuthenticationError, match="authenticate first"):
                client.ping()
            client.authenticate("alice")
            assert client.ping() > 0

    @pytest.mark.parametrize("options", [{}, {"protocol": "process"}])
    def test_there_are_no_internal_tokens(self, uri: str, options: dict[str, str]):
        with PieClient(uri, **options) as client:
            with pytest.raises(AuthenticationError, match="has no internal tokens"):
                client.internal_authenticate("secret")
            client.authenticate("alice")
            with pytest.raises(AuthenticationError, match="already authenticated"):
                client.internal_authenticate("secret")


class TestQueries:
    def test_ping(self, client: PieClient):
        before = client.stats()
        round_trip = client.ping()
        assert 0 < round_trip < LIMIT
        after = client.stats()
        assert after.last_round_trip == round_trip
        assert after.messages_sent == before.messages_sent + 1
        assert after.messages_received > before.messages_received

    def test_model_status(self, client: PieClient):
        successful, result = client.query("model_status", "")
        assert successful
        assert json.loads(result)["default.kv_pages_total"] == 512

    @pytest.mark.parametrize("subject", ["backend_stats", "program_exists", "weather"])
    def test_an_unknown_subject_is_answered(self, client: PieClient, subject: str):
        expected = f'unknown query subject "{subject}" (known: model_status)'
        assert client.query(subject, "") == QueryResult(False, expected)


def test_from_env(uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIE_URI", uri)
    monkeypatch.setenv("PIE_USERNAME", "alice")
    with PieClient.from_env() as client:
        assert client.protocol == "process"
        assert client.ping() > 0


def test_no_method_is_forgotten():
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    public = {name for kind in (PieClient, Instance) for name in vars(kind) if not name.startswith("_")}
    assert {name for name in public if not re.search(rf"\.{name}\b", source)} == set()
