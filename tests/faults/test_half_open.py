"""A peer that is gone without a word is noticed by pings; one that is merely slow is not taken for gone."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from pie_sync import Event, PieClient, PieConnectionError, PieError
from tests.faults.proxy import proxy_to
from tests.faults.raw_server import RawPeer, raw_server
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
            "upload": lambda: client.upload_program(bytes(64 * 1024 * 1024), timeout=None),
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

    def check(self) -> None:
        """Every waiter gets the connection error, in time."""
        deadline = time.monotonic() + INTERVAL + PATIENCE + GRACE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert set(self.outcomes) == set(self._calls)
        for name, error in self.outcomes.items():
            assert isinstance(error, PieConnectionError), name
            assert not isinstance(error, PieError), name
            assert "not even an answer to a ping" in str(error), name
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
def network_namespace():
    """A network of its own, connected to this one by a virtual cable: yields its name and its address."""
    name = f"pie-{os.getpid()}"
    address = "198.51.100.2"  # RFC 5737: for documentation, so that it is nobody's
    if "198.51.100." in subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout:
        pytest.skip("the addresses that this test would use are in use here")
    commands = [
        f"ip netns add {name}",
        f"ip link add {name} type veth peer name peer netns {name}",
        f"ip addr add 198.51.100.1/30 dev {name}",
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


@pytest.mark.skipif(
    shutil.which("ip") is None or os.geteuid() != 0, reason="needs root, and the network namespaces of Linux"
)
def test_a_network_that_is_gone():
    def serve(peer: RawPeer) -> None:
        peer.authenticate()
        request = peer.receive()
        peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message="one")
        echo = peer.receive()
        peer.send(type="instance_event", instance_id="one", event=0, message=echo["message"])
        while True:
            peer.receive()

    with network_namespace() as (namespace, address):
        with raw_server(serve, lambda: listener_in(namespace, address)) as uri:
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
            client.upload_program(os.urandom(size))
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
        client.upload_program(bytes(chunks * CHUNK))
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
