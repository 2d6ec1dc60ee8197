"""What is left of a run or a map is terminated: waiting for that where it may, and never for itself."""

from __future__ import annotations

import gc
import ssl
import threading
import time

import pytest
import trustme

from pie_sync import PieClient
from pie_sync._runs.launch import Launch
from pie_sync._runs.launcher import Launcher
from pie_sync._runs.program_reference import ProgramReference
from pie_sync._runs.termination import terminate_all
from pie_sync._session.pending_request import PendingRequest
from pie_sync._session.router import Router
from pie_sync._support.time_limits import TimeLimit
from pie_sync._transport.byte_stream import ByteStream
from pie_sync._transport.tls import TlsSocket
from pie_sync._transport.websocket import WebSocket
from pie_sync.testing import LocalServer
from tests.scripted import Peer, connect, scripted_server, wait_for_close


def launch_all(client: PieClient, count: int) -> list[Launch]:
    program = ProgramReference("sleep-until-told", None)
    launcher = Launcher(client._manager, "map", program, TimeLimit(20))
    launches = [Launch(launcher, TimeLimit(20)) for _ in range(count)]
    for launch in launches:
        launch.send([])
    return launches


def wait_until_nothing_runs(client: PieClient) -> None:
    """The next request comes after what is left to be sent, but a server ends an instance when it can."""
    deadline = time.monotonic() + 10
    while any(info.status != "Finished" for info in client.list_instances()):
        assert time.monotonic() < deadline


def test_all_of_them_and_the_answers_are_waited_for(client):
    launches = launch_all(client, 20)
    terminate_all(launches)
    assert client.stats().pending_requests == 0
    assert not any(launch.is_running for launch in launches)
    wait_until_nothing_runs(client)


def test_a_server_that_answers_nothing_delays_it_by_two_seconds_in_all():
    requests = []

    def script(peer: Peer) -> None:
        peer.authenticate()
        for number in range(3):
            peer.launch(str(number))
        for _ in range(3):
            requests.append(peer.receive()["type"])
        wait_for_close(peer)

    with scripted_server(script) as uri, connect(uri) as client:
        client.authenticate("alice")
        launches = launch_all(client, 3)
        assert all(launch.wait(None) for launch in launches)
        begin = time.monotonic()
        terminate_all(launches)
        assert 1.9 < time.monotonic() - begin < 4
        assert client.stats().pending_requests == 0
    assert requests == ["terminate_instance"] * 3


def test_what_can_not_be_sent_is_kept_nowhere_and_sent_later(client):
    """The connection is busy all the time: nobody waits for that, and nothing is left pending."""
    launches = launch_all(client, 3)
    assert all(launch.wait(None) for launch in launches)
    begin = time.monotonic()
    with client._manager.connection.session._websocket._send_lock:  # as if another thread were sending
        terminate_all(launches)
    assert time.monotonic() - begin < 1
    assert client.stats().pending_requests == 0
    wait_until_nothing_runs(client)


def test_a_lost_connection_is_no_error(server, client):
    launches = launch_all(client, 3)
    assert all(launch.wait(None) for launch in launches)
    server.drop_connections()
    client._manager.connection.session.wait_until_closed(10)
    begin = time.monotonic()
    terminate_all(launches)
    assert time.monotonic() - begin < 1


# --- in a finalizer -----------------------------------------------------------------------------------------


@pytest.fixture(params=["plain", "tls"])
def busy_client(request):
    """A client with a generator in a cycle of garbage, of which four instances run. TLS has a lock of its own."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    is_tls = request.param == "tls"
    with LocalServer(ssl_context=context if is_tls else None) as server:
        ended = threading.Semaphore(0)

        @server.program("some-wait")
        def some_wait(instance):
            try:
                return instance.receive() if instance.args else "done"
            finally:
                ended.release()

        with PieClient(server.uri, ssl_context=trusting if is_tls else None) as client:
            client.authenticate("alice")
            client.ended = ended
            gc.disable()  # until a test says where it runs
            leave_a_generator_in_a_cycle(client)
            assert ended.acquire(timeout=10)  # the one that does not wait
            yield client
            gc.enable()


def leave_a_generator_in_a_cycle(client: PieClient) -> None:
    results = client.map("some-wait", [[], *[["x"]] * 4], concurrency=5)
    assert next(results).message == "done"
    while len(client.list_instances()) < 4:
        pass
    cycle: list = [results]
    cycle.append(cycle)


class Collector:
    """Runs the garbage collector when it is first called, and then what it stands for."""

    def __init__(self, function):
        self.function = function
        self.seconds = None

    def __get__(self, instance, owner=None):
        return lambda *args, **options: self(instance, *args, **options)

    def __call__(self, *args, **options):
        if self.seconds is None:
            begin = time.monotonic()
            self.seconds = 0
            self.thread = threading.current_thread()
            gc.collect()
            self.seconds = time.monotonic() - begin
        return self.function(*args, **options)


def collect_in(monkeypatch, owner: type, name: str) -> Collector:
    collector = Collector(getattr(owner, name))
    monkeypatch.setattr(owner, name, collector)
    return collector


def assert_terminated(client: PieClient, collector: Collector) -> None:
    client.ping()
    assert 0 < collector.seconds < 1
    wait_until_nothing_runs(client)
    assert not client._manager.connection.session.router._queues
    assert client.stats().pending_requests == 0


def test_while_its_own_thread_is_inside_a_send(busy_client, monkeypatch):
    collector = collect_in(monkeypatch, PendingRequest, "mark_as_sent")
    busy_client.launch_instance_from_registry("some-wait").wait(10)
    assert collector.thread is threading.main_thread()
    assert_terminated(busy_client, collector)


def test_while_its_own_thread_sends_the_close_frame(busy_client, monkeypatch):
    """It is too late to terminate anything, but nothing may be waited for."""
    collector = collect_in(monkeypatch, WebSocket, "_write_left_overs")
    begin = time.monotonic()
    busy_client.close()
    assert time.monotonic() - begin < 1.5
    assert collector.seconds < 1


def test_in_the_reader_thread(busy_client, monkeypatch):
    collector = collect_in(monkeypatch, Router, "dispatch")
    for _ in range(2):  # the reader thread has looked up its next call before
        busy_client.ping()
    assert "reader" in collector.thread.name
    assert_terminated(busy_client, collector)


@pytest.mark.parametrize("busy_client", ["tls"], indirect=True)
@pytest.mark.parametrize("reads", [False, True])
def test_inside_of_tls(busy_client, monkeypatch, reads):
    collector = collect_in(monkeypatch, TlsSocket, "_flush_quietly" if reads else "_flush")
    busy_client.ping()
    assert ("reader" in collector.thread.name) is reads
    assert_terminated(busy_client, collector)


def test_in_the_reader_thread_of_another_client(busy_client, server, monkeypatch):
    with PieClient(server.uri) as other:
        other.authenticate("bob")
        collector = collect_in(monkeypatch, Router, "dispatch")
        for _ in range(2):
            other.ping()
        assert collector.thread is other._manager.connection.session._thread
        assert_terminated(busy_client, collector)


def test_inside_of_the_pending_requests(busy_client):
    session = busy_client._manager.connection.session
    collector = Collector(lambda: None)
    with session.router.pending._lock:
        collector()
    assert_terminated(busy_client, collector)


@pytest.mark.parametrize("busy_client", ["plain"], indirect=True)
@pytest.mark.parametrize("where", ["about to wait", "another client's reader thread"])
def test_the_reader_thread_does_not_sleep_over_it(busy_client, server, monkeypatch, where):
    """Nothing is sent or received afterwards, and the next ping is far away."""
    with PieClient(server.uri) as other:
        other.authenticate("bob")
        asking = busy_client if where == "about to wait" else other
        owner, name = (ByteStream, "recv_waiting") if asking is busy_client else (Router, "dispatch")
        collector = collect_in(monkeypatch, owner, name)
        for _ in range(1 if asking is busy_client else 2):  # the reader thread has looked up dispatch() before
            asking.ping()
        assert all(busy_client.ended.acquire(timeout=10) for _ in range(4))
        assert collector.thread is asking._manager.connection.session._thread
