"""Time limits of nothing, of next to nothing, and senseless ones: of each call that takes one."""

from __future__ import annotations

import pytest

from pie_sync import PieClient, PieConnectionError, PieConnectTimeoutError, PieTimeoutError, PieValueError
from tests.faults.raw_server import RawPeer, raw_server
from tests.faults.test_every_call_ends import GRACE, LIMIT, ends_within, stay_silent
from tests.programs import no_component

#: Whatever takes a time limit, on a client and an instance of its.
TIMED_CALLS = {
    "ping": lambda client, _, timeout: client.ping(timeout=timeout),
    "query": lambda client, _, timeout: client.query("model_status", "", timeout=timeout),
    "program_exists": lambda client, _, timeout: client.program_exists("ab" * 32, timeout=timeout),
    "list_instances": lambda client, _, timeout: client.list_instances(timeout=timeout),
    "launch_instance": lambda client, _, timeout: client.launch_instance("ab" * 32, timeout=timeout),
    "from_registry": lambda client, _, timeout: client.launch_instance_from_registry("x", timeout=timeout),
    "attach_instance": lambda client, _, timeout: client.attach_instance("x", timeout=timeout),
    "terminate_instance": lambda client, _, timeout: client.terminate_instance("x", timeout=timeout),
    "upload_program": lambda client, _, timeout: client.upload_program(b"\0asm", timeout=timeout),
    "run": lambda client, _, timeout: client.run("x", timeout=timeout),
    "recv": lambda _, instance, timeout: instance.recv(timeout),
    "wait": lambda _, instance, timeout: instance.wait(timeout),
    "events": lambda _, instance, timeout: next(instance.events(timeout)),
    "upload_blob": lambda _, instance, timeout: instance.upload_blob(b"blob", timeout=timeout),
    "terminate": lambda _, instance, timeout: instance.terminate(timeout=timeout),
    "send": lambda _, instance, timeout: instance.send("hello", timeout=timeout),
}

#: What may be done without waiting.
POLLING = ("recv", "wait", "events", "send")


@pytest.fixture(scope="module", params=["that says nothing", "that is frozen"])
def frozen(request):
    """A client and an instance of a server that says nothing more; or does not read, either."""
    is_frozen = request.param == "that is frozen"

    def serve(peer: RawPeer) -> None:
        peer.authenticate()
        peer.launch()
        if not is_frozen:
            stay_silent(peer)

    with raw_server(serve) as uri, PieClient(uri, ping_interval=None) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("x")
        if is_frozen:
            with pytest.raises(PieTimeoutError):
                client.upload_program(no_component(64 * 1024 * 1024), timeout=LIMIT)
        yield client, instance, is_frozen


class TestTheEdgesOfTimeLimits:
    @pytest.mark.parametrize("name", TIMED_CALLS)
    @pytest.mark.parametrize("timeout", [0, 0.0])
    def test_none_at_all(self, frozen, name, timeout):
        """What has to wait for an answer refuses 0, before it sends anything; what may find something polls."""
        client, instance, _ = frozen
        if name in POLLING:
            self.test_next_to_none(frozen, name, timeout)
            return
        before = client.stats()
        with pytest.raises(PieValueError, match="timeout must be more than 0") as caught:
            TIMED_CALLS[name](client, instance, timeout)
        assert caught.value.hint == "None waits without limit"
        assert client.stats() == before, "something was sent"

    @pytest.mark.parametrize("name", TIMED_CALLS)
    @pytest.mark.parametrize("timeout", [1e-9])
    def test_next_to_none(self, frozen, name, timeout):
        client, instance, is_frozen = frozen
        # What run() launched is terminated: that may take 2 seconds, and waiting for its end 1 more.
        with ends_within(GRACE + (3 if name == "run" else 0)):
            if name == "send" and not is_frozen:
                TIMED_CALLS[name](client, instance, timeout)  # there is room, and nothing to wait for
            else:
                with pytest.raises(PieTimeoutError):
                    TIMED_CALLS[name](client, instance, timeout)
        assert not client.closed

    @pytest.mark.parametrize("name", TIMED_CALLS)
    @pytest.mark.parametrize(
        ("timeout", "error"),
        [(-1, ValueError), (-1e-9, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)],
    )
    def test_senseless_ones(self, frozen, name, timeout, error):
        client, instance, _ = frozen
        before = client.stats()
        with pytest.raises(error, match="timeout must"):
            TIMED_CALLS[name](client, instance, timeout)
        assert client.stats() == before, "something was sent"

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    @pytest.mark.parametrize("timeout", [1e-9])
    def test_connecting(self, host, timeout):
        with raw_server(lambda peer: None) as uri:
            client = PieClient(uri.replace("127.0.0.1", host), connect_timeout=timeout)
            with ends_within(GRACE), pytest.raises(PieConnectTimeoutError, match="within 1e-09 s"):
                client.connect()
            assert client.closed

    @pytest.mark.parametrize(
        ("option", "hint"),
        [
            ("timeout", "None waits without limit"),
            ("connect_timeout", "None waits without limit"),
            ("ping_interval", "None: never"),
            ("ping_timeout", "None: no limit"),
            ("reconnect_timeout", "reconnect=False does not try at all"),
        ],
    )
    def test_clients_without_any_time(self, option, hint):
        with pytest.raises(PieValueError, match=f"^{option} must be more than 0 seconds") as caught:
            PieClient("ws://127.0.0.1:1", **{option: 0})
        assert caught.value.hint == hint

    def test_pings(self):
        """A ping at every look, and no patience at all: the connection ends at once, and says why."""

        def serve(peer: RawPeer) -> None:
            peer.upgrade()
            stay_silent(peer)

        with raw_server(serve) as uri, PieClient(uri, ping_interval=1e-9, ping_timeout=1e-9) as client:
            with ends_within(GRACE), pytest.raises(PieConnectionError, match="not even an answer to a ping"):
                client.authenticate("alice")
