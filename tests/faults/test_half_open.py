"""A peer that is gone without a word is noticed; one that is merely slow, or stopped, is not taken for gone."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from inspect import signature

import pytest

from pie_sync import Event, PieClient, PieConnectionError, PieError, PieTimeoutError
from pie_sync._transport import websocket
from pie_sync._transport.dialer import Dialer
from pie_sync._transport.uri import parse_uri
from tests.faults.proxy import proxy_to
from tests.faults.raw_server import RawPeer, raw_server
from tests.faults.threads import wait_until_it_waits
from tests.programs import no_component
from tests.scripted import Peer, scripted_server, wait_for_close

INTERVAL, PATIENCE = 0.4, 0.4

#: What noticing may take beyond the limits, on a machine that has other things to do.
GRACE = 1.5

CHUNK = 256 * 1024


class Waiters:
    """Threads that wait for something from a server: in each way there is."""

    def __init__(self, client: PieClient) -> None:
        self.outcomes: dict[str, BaseException] = {}
        self._instance = instance = client.launch_instance_from_registry("echo")
        instance.send("hello")
        assert instance.recv(10) == (Event.Message, "hello")
        self._calls = {
            "recv": instance.recv,
            "iteration": lambda: list(instance),
            "wait": instance.wait,
            "query": lambda: client.query("the weather", "", timeout=None),
            "upload": lambda: client.upload_program(no_component(64 * 1024 * 1024), timeout=None),
        }
        self._threads = [threading.Thread(target=self._run, args=(name,)) for name in self._calls]

    def _run(self, name: str) -> None:
        try:
            self._calls[name]()
        except BaseException as error:
            self.outcomes[name] = error

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def check(self, limit: float = INTERVAL + PATIENCE, text: str = "not even an answer to a ping") -> None:
        """Every waiter gets the connection error, within so many seconds."""
        deadline = time.monotonic() + limit + GRACE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert set(self.outcomes) == set(self._calls)
        for name, error in self.outcomes.items():
            assert isinstance(error, PieConnectionError), name
            assert not isinstance(error, PieError), name
            assert text in str(error), name
        assert len(set(map(id, self.outcomes.values()))) == len(self.outcomes), "an exception of its own for each"


def test_a_proxy_that_swallows_everything(server):
    with proxy_to(server.uri) as proxy:
        with PieClient(proxy.uri, timeout=60, ping_interval=INTERVAL, ping_timeout=PATIENCE) as client:
            client.authenticate("alice")
            waiters = Waiters(client)
            proxy.freeze()
            waiters.start()
            waiters.check()
            assert client.closed
            begin = time.monotonic()
        assert time.monotonic() - begin < 0.5, "there is nobody to say good-bye to"


@contextmanager
def network_namespace(number: int = 0):
    """A network of its own, connected to this one by a virtual cable: yields its name and its address.

    Tests that may run at the same time have different numbers, from 0 to 63.
    """
    name = f"pie-{os.getpid()}"
    # RFC 5737: for documentation, so that they are nobody's
    ours, address = (f"198.51.100.{4 * number + host}" for host in (1, 2))
    if f"{ours} " in subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout:
        pytest.skip("the addresses that this test would use are in use here")
    commands = [
        f"ip netns add {name}",
        f"ip link add {name} type veth peer name peer netns {name}",
        f"ip addr add {ours}/30 dev {name}",
        f"ip link set {name} up",
        f"ip -n {name} addr add {address}/30 dev peer",
        f"ip -n {name} link set peer up",
    ]
    try:
        for command in commands:
            try:
                subprocess.run(command.split(), check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"needs the right to make network namespaces: {error}")
        yield name, address
    finally:
        # The namespace itself lives on as long as the system tries to deliver something from it; the cable goes.
        subprocess.run(["ip", "link", "del", name], capture_output=True)
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def listener_in(namespace: str, address: str) -> socket.socket:
    """A listening socket in another network. It stays there, whoever uses it; so does a thread, which ends."""
    made: list[socket.socket] = []

    def make() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{namespace}") as file:
            assert libc.setns(file.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
        made.append(socket.create_server((address, 0)))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def serve_one_echo(peer: RawPeer) -> None:
    """Do what :class:`Waiters` need, and say nothing more."""
    peer.authenticate()
    request = peer.receive()
    peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message="one")
    echo = peer.receive()
    peer.send(type="instance_event", instance_id="one", event=0, message=echo["message"])
    while True:
        peer.receive()


needs_namespaces = pytest.mark.skipif(
    shutil.which("ip") is None or os.geteuid() != 0, reason="needs root, and the network namespaces of Linux"
)


@needs_namespaces
@pytest.mark.parametrize(("number", "ping_timeout"), [(1, 120.0), (2, None)])
def test_a_host_that_vanished_is_noticed_sooner_than_a_server_that_stalls(monkeypatch, number, ping_timeout):
    """By what the system does not acknowledge, however long a server may stall."""
    monkeypatch.setattr(websocket, "VANISHED_AFTER", 2)
    monkeypatch.setattr(websocket, "_LOOK_AGAIN_FOR_ANSWER", 0.1)
    with network_namespace(number) as (namespace, address):
        with raw_server(serve_one_echo, lambda: listener_in(namespace, address)) as uri:
            with PieClient(uri, timeout=60, ping_interval=INTERVAL, ping_timeout=ping_timeout) as client:
                client.authenticate("alice")
                waiters = Waiters(client)
                subprocess.run(["ip", "-n", namespace, "link", "set", "peer", "down"], check=True)
                waiters.start()
                # A retransmission gets a second for its answer, and the next comes up to two seconds later.
                waiters.check(INTERVAL + 2 + 2, "the other machine has acknowledged nothing for")
                assert client.closed


#: A server in a process of its own, which can be stopped. Tells its URI.
SERVER = """
import sys
from pie_sync.testing import LocalServer
from tests.programs import add_programs
with LocalServer() as server:
    add_programs(server)
    print(server.uri, flush=True)
    sys.stdin.read()
"""


@contextmanager
def server_process():
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process, process.stdout.readline().strip()
        process.send_signal(signal.SIGCONT)
        process.stdin.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
@pytest.mark.parametrize("is_full", [False, True], ids=["that has taken everything", "with data of ours to take"])
def test_a_server_that_is_stopped_is_not_taken_for_gone(monkeypatch, is_full):
    """Its system goes on acknowledging. The same times within which a host that is gone would be noticed."""
    monkeypatch.setattr(websocket, "VANISHED_AFTER", 2)
    monkeypatch.setattr(websocket, "_LOOK_AGAIN_FOR_ANSWER", 0.1)
    with server_process() as (process, uri), PieClient(uri, timeout=60, ping_interval=INTERVAL) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("echo")
        process.send_signal(signal.SIGSTOP)
        uploaded = []
        upload = threading.Thread(target=lambda: uploaded.append(instance.upload_blob(bytes(64 * 1024 * 1024))))
        if is_full:
            upload.start()
            wait_until_it_waits(upload, "send_all")
        with pytest.raises(PieTimeoutError):
            instance.recv(6)
        process.send_signal(signal.SIGCONT)
        instance.send("still here")
        assert instance.recv(30) == (Event.Message, "still here")
        if is_full:
            upload.join(60)
            assert uploaded
        assert client.stats().reconnects == 0


def test_the_default_limits_are_for_servers_that_stall_and_hosts_that_vanish():
    defaults = signature(PieClient).parameters
    assert defaults["ping_interval"].default + websocket.VANISHED_AFTER <= 60
    assert defaults["ping_timeout"].default >= 120
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialer = Dialer(None)
        address = parse_uri(f"ws://127.0.0.1:{listener.getsockname()[1]}")
        with dialer.dial(address, ssl_context=None) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
            idle, interval, count = (
                sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
            )
            assert idle + interval * count <= 60


@needs_namespaces
def test_a_network_that_is_gone():
    with network_namespace() as (namespace, address):
        with raw_server(serve_one_echo, lambda: listener_in(namespace, address)) as uri:
            with PieClient(uri, timeout=60, ping_interval=INTERVAL, ping_timeout=PATIENCE) as client:
                client.authenticate("alice")
                waiters = Waiters(client)
                subprocess.run(["ip", "-n", namespace, "link", "set", "peer", "down"], check=True)
                waiters.start()
                waiters.check()
                assert client.closed


def test_a_slow_line_is_not_a_dead_one():
    """An upload keeps the line busy for longer than a ping may take, and the server says nothing meanwhile."""
    size = 8 * CHUNK

    def serve(peer: Peer) -> None:
        peer.authenticate()
        for _ in range(size // CHUNK):
            request = peer.receive(60)
        peer.respond(request, request["program_hash"])
        wait_for_close(peer)

    with scripted_server(serve) as uri, proxy_to(uri, buffer_size=16 * 1024) as proxy:
        with PieClient(proxy.uri, ping_interval=0.2, ping_timeout=0.8) as client:
            client.authenticate("alice")
            proxy.chunk_size = 8 * 1024
            proxy.delay = lambda: 0.01  # 800 KB/s, at the most
            begin = time.monotonic()
            client.upload_program(b"\0asm" + os.urandom(size))
            assert time.monotonic() - begin > 1.5, "the line was not slow"


def test_pings_of_the_server_are_answered_during_an_upload():
    """A pong waits for the frame that is being written, not for all of the upload."""
    chunks = 256
    answered_at = []

    def serve(peer: RawPeer) -> None:
        peer.authenticate()
        for number in range(chunks):
            if number == 8:
                peer.ping(b"are you there?")
            request = peer.receive()
            if peer.pongs and not answered_at:
                answered_at.append(number)
        peer.respond(request, "")
        peer.receive()

    with raw_server(serve) as uri, PieClient(uri) as client:
        client.authenticate("alice")
        client.upload_program(no_component(chunks * CHUNK))
    assert answered_at
    assert answered_at[0] < chunks - 1


def test_without_pings_silence_is_no_fault():
    def serve(peer: RawPeer) -> None:
        peer.authenticate()
        request = peer.receive()
        peer.stopped.wait(0.5)
        peer.respond(request, "Pong")
        peer.receive()

    with raw_server(serve) as uri, PieClient(uri, ping_interval=None) as client:
        client.authenticate("alice")
        assert client.ping() > 0.4
