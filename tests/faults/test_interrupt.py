"""Ctrl-C: KeyboardInterrupt at once, and afterwards the client is usable, or cleanly closed.

The same for whatever another signal handler raises: it is never taken for an error of the connection.

Usable, after an interrupted recv, iteration, wait, request, authentication or connect, and after an upload that
waited for its answer. Closed, after an upload or a message that was being written just then: nobody knows how
much of it is on the wire.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from string import Template

import pytest

from tests.faults.raw_server import RawPeer, raw_server

#: How long KeyboardInterrupt may take.
LIMIT = 0.2

# A program that does one thing, says when it waits in it, and then what came of it. What it is to do is told by
# "before" and "call"; "after" says how things are then.
PROGRAM = """
import os, signal, sys, threading, time, warnings
from pie_sync import PieClient, PieConnectionError

def is_socket(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    except FileNotFoundError:  # closed meanwhile, by the reader thread
        return False

def open_sockets():
    return sum(map(is_socket, os.listdir("/proc/self/fd")))

def tell_when_it_waits(main=threading.main_thread().ident):
    seen = None
    while True:
        frame = sys._current_frames()[main]
        place = []
        while frame is not None:
            place.append((id(frame), frame.f_lasti, frame.f_code.co_name))
            frame = frame.f_back
        if place == seen and any(name == "$place" for _, _, name in place):
            break
        seen = place
        time.sleep(0.02)
    print("waiting", flush=True)

class WatchdogError(Exception):
    pass

def handle(number, frame):
    raise $raised

signal.signal(signal.SIGINT, handle)
uri = sys.argv[1]
client = PieClient(uri, timeout=60, connect_timeout=60)
$before
def call():
    $call
threading.Thread(target=tell_when_it_waits, daemon=True).start()
try:
    call()
    print("it ended by itself", flush=True)
except BaseException as error:
    if type(error) is not type($raised) or error.__cause__ is not None:
        raise
    print(time.monotonic(), flush=True)
$after
"""

CONNECTED = """
client.connect()
client.authenticate("alice")
"""

LAUNCHED = (
    CONNECTED
    + """
instance = client.launch_instance_from_registry("echo")
"""
)

USABLE = """
client.ping()
print("usable", flush=True)
client.close()
"""

RECEIVES_ON = """
instance.send("hello")
print(*instance.recv(10)[1:], flush=True)
client.close()
"""

CLOSED = """
try:
    client.ping(timeout=10)
except PieConnectionError as error:
    print("closed:", error, flush=True)
assert client.closed
client.connect()
client.authenticate("alice")
print("connected anew", flush=True)
client.close()
"""


def interrupt(
    uri: str,
    before: str,
    call: str,
    after: str,
    *,
    place: str = "call",
    raised: str = "KeyboardInterrupt()",
) -> list[str]:
    """Run a program, interrupt it when it waits inside of a function, and return what it says afterwards."""
    program = Template(PROGRAM).substitute(
        before=before, call=call, after=textwrap.dedent(after), place=place, raised=raised
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, uri],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n", process.communicate(timeout=30)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    first, *rest = output.splitlines()
    took = float(first) - begin
    assert took < LIMIT, f"{took:.2f} s"
    return rest


class TestInterrupted:
    @pytest.mark.parametrize(
        "call", ["instance.recv()", "list(instance)", "instance.wait()", "next(instance.events(60))"]
    )
    def test_receiving(self, server, call):
        assert interrupt(server.uri, LAUNCHED, call, RECEIVES_ON) == ["hello"]

    def test_a_request(self, server):
        call = "client.query('the weather', '')"
        assert interrupt(server.uri, CONNECTED, call, USABLE) == ["usable"]

    def test_an_upload_that_waits_for_its_answer(self):
        with unresponsive_server() as uri:
            call = "client.upload_program(b'\\0asm')"
            assert interrupt(uri, CONNECTED, call, USABLE) == ["usable"]

    def test_an_upload_in_the_middle_of_a_frame(self):
        with unresponsive_server(reads=False) as uri:
            call = "client.upload_program(b'\\0asm'.ljust(64 * 1024 * 1024))"
            closed, again = interrupt(uri, CONNECTED, call, CLOSED, place="send_all")
            assert closed.startswith("closed: ")
            assert again == "connected anew"

    def test_an_upload_in_its_callback(self, server):
        call = "client.upload_program(b'\\0asm'.ljust(1024 * 1024), progress=lambda sent, total: time.sleep(60))"
        assert interrupt(server.uri, CONNECTED, call, USABLE) == ["usable"]

    def test_connecting(self):
        def serve(peer: RawPeer) -> None:
            connections.append(peer)
            if len(connections) > 1:
                peer.authenticate()
                answer_pings(peer)

        connections: list[RawPeer] = []
        with raw_server(serve) as uri:
            after = CONNECTED + USABLE
            assert interrupt(uri, "", "client.connect()", after) == ["usable"]

    def test_authenticating(self):
        is_answered = iter([False, True])

        def serve(peer: RawPeer) -> None:  # the second attempt has a connection of its own
            peer.upgrade()
            request = peer.receive()
            if next(is_answered):
                peer.respond(request, "Authenticated (Engine disabled authentication)")
            answer_pings(peer)

        with raw_server(serve) as uri:
            after = "client.authenticate('alice')" + USABLE
            assert interrupt(uri, "client.connect()", "client.authenticate('alice')", after) == ["usable"]

    def test_closing(self):
        """A server that does not answer the good-bye; the connection is gone all the same."""
        with unresponsive_server(reads=False) as uri:
            after = """
                assert client.closed
                deadline = time.monotonic() + 1.5
                while open_sockets() and time.monotonic() < deadline:
                    time.sleep(0.01)
                print(open_sockets(), "sockets", flush=True)
            """
            assert interrupt(uri, CONNECTED, "client.close()", after) == ["0 sockets"]


@pytest.mark.parametrize("raised", ["TimeoutError('of a watchdog')", "OSError(32, 'its own')", "WatchdogError()"])
class TestAHandlerThatRaisesSomethingElse:
    def test_receiving(self, server, raised):
        assert interrupt(server.uri, LAUNCHED, "instance.recv()", RECEIVES_ON, raised=raised) == ["hello"]

    def test_a_request(self, server, raised):
        call = "client.query('the weather', '')"
        assert interrupt(server.uri, CONNECTED, call, USABLE, raised=raised) == ["usable"]

    def test_an_upload_in_the_middle_of_a_frame(self, raised):
        with unresponsive_server(reads=False) as uri:
            call = "client.upload_program(b'\\0asm'.ljust(64 * 1024 * 1024))"
            closed, again = interrupt(uri, CONNECTED, call, CLOSED, place="send_all", raised=raised)
            assert closed.startswith("closed: ")
            assert again == "connected anew"

    def test_map(self, server, raised):
        before = CONNECTED + "results = client.map('echo', [[]] * 3, return_exceptions=True, retries=3)"
        assert interrupt(server.uri, before, "list(results)", USABLE, raised=raised) == ["usable"]

    @pytest.mark.parametrize("proxy", ["", "import os; os.environ['http_proxy'] = f'http://127.0.0.1:{port}'"])
    def test_connecting(self, raised, proxy):
        """The server says nothing, or a proxy does not."""
        connections: list[RawPeer] = []
        with raw_server(connections.append) as uri:
            before = "port = uri.rpartition(':')[2]\n" + proxy
            if proxy:
                before += "\nclient = PieClient('ws://192.0.2.1', connect_timeout=60)"
            after = "print('closed' if client.closed else 'open', open_sockets())"
            assert interrupt(uri, before, "client.connect()", after, raised=raised) == ["closed 0"]


def answer_pings(peer: RawPeer) -> None:
    while True:
        request = peer.receive()
        if request["type"] == "ping":
            peer.respond(request, "Pong")


@contextmanager
def unresponsive_server(*, reads: bool = True):
    """A server that answers pings, and nothing else; or does not even read them, on the first connection."""
    connections: list[RawPeer] = []

    def serve(peer: RawPeer) -> None:
        connections.append(peer)
        peer.authenticate()
        if reads or len(connections) > 1:
            answer_pings(peer)

    with raw_server(serve) as uri:
        yield uri
