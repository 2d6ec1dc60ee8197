"""Whatever the server does or leaves undone, each call ends within its time limit, and the client closes."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from pie_sync import PieClient, PieConnectionError, PieConnectTimeoutError, PieTimeoutError
from pie_sync._transport.websocket import WebSocket
from tests.faults.raw_server import RawPeer, binary_frame, raw_server
from tests.faults.threads import run_all, wait_until_it_waits
from tests.programs import no_component

#: The time limit of a call, and what it may take beyond that on a machine that has other things to do.
LIMIT, GRACE = 0.3, 1.5

#: How long close() may take, whatever the server does.
CLOSE_LIMIT = 2.0

CHUNK = 256 * 1024


@contextmanager
def ends_after(limit: float):
    begin = time.monotonic()
    try:
        yield
    finally:
        took = time.monotonic() - begin
        assert limit * 0.9 <= took <= limit + GRACE, f"{took:.2f} s"


@contextmanager
def ends_within(limit: float):
    begin = time.monotonic()
    yield
    took = time.monotonic() - begin
    assert took <= limit, f"{took:.2f} s"


@contextmanager
def authenticated(uri: str, **options):
    """A client, for a server that does nothing more for it after that."""
    client = PieClient(uri, timeout=options.pop("timeout", 30), **options)
    client.connect()
    try:
        client.authenticate("alice")
        yield client
    finally:
        with ends_within(CLOSE_LIMIT):
            client.close()
        assert client.closed


def close_while_it_connects(client: PieClient, begun: threading.Event) -> PieConnectionError:
    """Close a client once another thread is inside of connect(); return what that raises there."""
    outcomes: list[PieConnectionError] = []

    def connect() -> None:
        try:
            client.connect()
        except PieConnectionError as error:
            outcomes.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    assert begun.wait(10)
    with ends_within(CLOSE_LIMIT):
        client.close()
    thread.join(5)
    assert not thread.is_alive()
    (outcome,) = outcomes
    return outcome


def stay_silent(peer: RawPeer) -> None:
    """Accept, read, and say nothing."""
    while True:
        peer.receive()


@pytest.fixture
def slow_look_up(monkeypatch):
    """The system looks for a host's name until the test is over. No real system can be made to."""
    over, begun = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def look_up(host, *args, **options):
        if host != "pie.example" or options.get("flags"):
            return real(host, *args, **options)
        begun.set()
        over.wait()
        raise socket.gaierror("not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield begun
    over.set()
    for thread in threading.enumerate():
        if thread.name.startswith("pie-sync look-up"):
            thread.join()


class TestConnecting:
    """connect() against servers that never come to the end of the handshake."""

    def attempt(self, serve, scheme: str = "ws") -> None:
        with raw_server(serve) as uri:
            client = PieClient(uri.replace("ws", scheme, 1), connect_timeout=LIMIT)
            with ends_after(LIMIT), pytest.raises(PieConnectTimeoutError, match=r"within 0\.3 s"):
                client.connect()
            with ends_within(CLOSE_LIMIT):
                client.close()
            reader_is_gone()

    def test_a_server_that_says_nothing(self):
        self.attempt(lambda peer: None)

    def test_a_server_that_does_not_accept(self):
        """The connection waits in the queue of the listening socket."""
        with socket.create_server(("127.0.0.1", 0), backlog=1) as busy:
            client = PieClient(f"ws://127.0.0.1:{busy.getsockname()[1]}", connect_timeout=LIMIT)
            with ends_after(LIMIT), pytest.raises(PieConnectTimeoutError):
                client.connect()
            reader_is_gone()

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n",
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000\r\n\r\n" + bytes(1000),
        ],
        ids=["headers", "error page"],
    )
    def test_a_server_that_drips(self, answer):
        """Every byte comes in time, for a limit that is for each of them."""
        self.attempt(lambda peer: peer.drip(answer, interval=0.1))

    def test_a_server_that_stops_in_the_middle_of_its_answer(self):
        self.attempt(lambda peer: peer.socket.sendall(b"HTTP/1.1 101 Switch"))

    def test_a_server_whose_headers_never_end(self):
        """It keeps within its time, but not within a megabyte."""

        def serve(peer: RawPeer) -> None:
            peer.socket.sendall(b"HTTP/1.1 101 Switching Protocols\r\n")
            while True:
                peer.socket.sendall(b"X-More: and more\r\n" * 100)

        with raw_server(serve) as uri:
            with pytest.raises(PieConnectionError, match="longer than 1048576 bytes"):
                PieClient(uri, connect_timeout=30).connect()
            reader_is_gone()

    @pytest.mark.parametrize("attempts", [1, 2])
    def test_the_limit_is_for_both_places_where_a_server_is_looked_for(self, attempts):
        """Not found at "/", it may be Pie 0.5, which is at a path of its own."""
        asked = []

        def serve(peer: RawPeer) -> None:
            asked.append(peer)
            if attempts == 2 and len(asked) == 1:
                time.sleep(LIMIT / 2)  # of the time
                peer.socket.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        self.attempt(serve)
        assert len(asked) == attempts

    def test_a_look_up_of_the_name_that_takes_long(self, slow_look_up):
        client = PieClient("ws://pie.example", connect_timeout=LIMIT)
        with ends_after(LIMIT), pytest.raises(PieConnectTimeoutError, match=r"within 0\.3 s"):
            client.connect()
        assert slow_look_up.is_set()

    def test_close_while_the_name_is_looked_up(self, slow_look_up):
        client = PieClient("ws://pie.example", connect_timeout=None)
        assert "given up" in str(close_while_it_connects(client, slow_look_up))

    def test_a_name_that_nobody_knows(self):
        with pytest.raises(PieConnectionError, match=r"can't connect to ws://pie\.invalid"):
            PieClient("ws://pie.invalid").connect()

    def test_tls_that_is_not_answered(self):
        self.attempt(lambda peer: None, scheme="wss")

    def test_tls_that_drips(self):
        self.attempt(lambda peer: peer.drip(b"\x16\x03\x03\x40\x00" + bytes(1000), interval=0.1), scheme="wss")

    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 Connection establ"], ids=["silent", "drips"])
    @pytest.mark.parametrize("scheme", ["ws", "wss"])
    def test_a_proxy_that_never_comes_to_an_end(self, answer, scheme, monkeypatch):
        def serve(peer: RawPeer) -> None:
            peer.drip(answer + b"\r\nX: " + bytes(1000) if answer else b"", interval=0.1)

        with raw_server(serve) as uri:
            monkeypatch.setenv("https_proxy" if scheme == "wss" else "http_proxy", uri.replace("ws", "http"))
            client = PieClient(f"{scheme}://pie.example", connect_timeout=LIMIT)
            with ends_after(LIMIT), pytest.raises(PieConnectTimeoutError, match=r"within 0\.3 s"):
                client.connect()
            reader_is_gone()


def reader_is_gone(grace: float = 1.0) -> None:
    """A connection that was given up has no thread any more."""
    deadline = time.monotonic() + grace
    for thread in threading.enumerate():
        if thread.name.startswith("pie-sync reader"):
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive()


CALLS = {
    "ping": lambda client: client.ping(timeout=LIMIT),
    "query": lambda client: client.query("model_status", "", timeout=LIMIT),
    # Asks twice, where the server knows the program under one of two names.
    "program_exists": lambda client: client.program_exists("ab" * 32, timeout=LIMIT),
    "list_instances": lambda client: client.list_instances(timeout=LIMIT),
    "launch_instance": lambda client: client.launch_instance("ab" * 32, timeout=LIMIT),
    "launch_instance_from_registry": lambda client: client.launch_instance_from_registry("x", timeout=LIMIT),
    "attach_instance": lambda client: client.attach_instance("x", timeout=LIMIT),
    "terminate_instance": lambda client: client.terminate_instance("x", timeout=LIMIT),
    "upload_program": lambda client: client.upload_program(b"\0asm", timeout=LIMIT),
    "a large upload_program": lambda client: client.upload_program(no_component(5 * CHUNK), timeout=LIMIT),
}


class TestCalls:
    """What can be called, against a server that lets the client in and then fails it."""

    def test_a_server_that_answers_nothing(self):
        def serve(peer: RawPeer) -> None:
            peer.authenticate()
            stay_silent(peer)

        with raw_server(serve) as uri, authenticated(uri) as client:
            outcomes: dict[str, str] = {}

            def ask(name: str) -> None:
                try:
                    with ends_after(LIMIT):
                        CALLS[name](client)
                except PieTimeoutError as error:
                    outcomes[name] = str(error)

            run_all(*(partial(ask, name) for name in CALLS))
            assert set(outcomes) == set(CALLS)
            for name, text in outcomes.items():
                assert "upload" in name or text.startswith(f"{name}: "), "the text says which call"
            assert not client.closed, "a request without an answer is no lost connection"

    def test_authentication(self):
        def serve(peer: RawPeer) -> None:
            peer.upgrade()
            stay_silent(peer)

        with raw_server(serve) as uri, PieClient(uri) as client:
            for authenticate in (client.authenticate, client.internal_authenticate):
                with ends_after(LIMIT), pytest.raises(PieTimeoutError, match="authenticate"):
                    authenticate("alice", timeout=LIMIT)

    def test_authentication_while_another_thread_waits_for_its_own(self):
        asked = threading.Event()

        def serve(peer: RawPeer) -> None:
            peer.upgrade()
            peer.receive()
            asked.set()
            stay_silent(peer)

        with raw_server(serve) as uri, PieClient(uri) as client:

            def wait() -> None:
                with pytest.raises(PieTimeoutError):
                    client.authenticate("alice", timeout=4 * LIMIT)

            thread = threading.Thread(target=wait)
            thread.start()
            assert asked.wait(10)
            with ends_after(LIMIT), pytest.raises(PieTimeoutError):
                client.authenticate("alice", timeout=LIMIT)
            thread.join(20)

    def test_one_request_of_many_is_not_answered(self):
        def serve(peer: RawPeer) -> None:
            peer.authenticate()
            while True:
                request = peer.receive()
                if request.get("record") != "unanswered":
                    peer.respond(request, "Pong")

        with raw_server(serve) as uri, authenticated(uri) as client:
            outcome = []

            def ask() -> None:
                with ends_after(LIMIT), pytest.raises(PieTimeoutError):
                    client.query("a", "unanswered", timeout=LIMIT)
                outcome.append("ended")

            thread = threading.Thread(target=ask)
            thread.start()
            while thread.is_alive():
                client.ping(timeout=5)
            thread.join()
            assert outcome == ["ended"]

    def test_a_server_that_stops_in_the_middle_of_a_frame(self):
        def serve(peer: RawPeer) -> None:
            peer.authenticate()
            peer.receive()
            peer.socket.sendall(binary_frame(bytes(1000))[:500])

        with raw_server(serve) as uri, authenticated(uri) as client:
            with ends_after(LIMIT), pytest.raises(PieTimeoutError):
                client.ping(timeout=LIMIT)
            with ends_after(LIMIT), pytest.raises(PieTimeoutError):
                client.ping(timeout=LIMIT)

    def test_a_server_that_stops_in_the_middle_of_a_header(self):
        def attempt(rest: bytes) -> None:
            def serve(peer: RawPeer) -> None:
                peer.authenticate()
                peer.socket.sendall(rest)

            with raw_server(serve) as uri, authenticated(uri) as client:
                with ends_after(LIMIT), pytest.raises(PieTimeoutError):
                    client.ping(timeout=LIMIT)
                attempts.append(rest)

        attempts: list[bytes] = []
        rests = [b"\x82", b"\x82\x7f" + bytes(7), b"\x02\x05hello", b"\x89\x04pi"]
        run_all(*(partial(attempt, rest) for rest in rests))
        assert sorted(attempts) == sorted(rests)

    def test_recv_and_wait_and_iteration(self):
        with raw_server(launches_only) as uri, authenticated(uri) as client:
            instance = client.launch_instance_from_registry("x")
            for call in (instance.recv, instance.wait, lambda limit: next(instance.events(limit))):
                with ends_after(LIMIT), pytest.raises(PieTimeoutError, match=r"within 0\.3 s"):
                    call(LIMIT)
            with pytest.raises(PieTimeoutError):
                instance.recv(0)


def launches_only(peer: RawPeer) -> None:
    """Accept, launch one instance, and say nothing more."""
    peer.authenticate()
    request = peer.receive()
    peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message="instance-1")
    stay_silent(peer)


class TestASignalHandlerThatTakesLonger:
    """It runs in the main thread, within what waits there, and the time limit passes meanwhile.

    Python begins to wait again after that, and must not for ever: up to 3.12 ``queue.SimpleQueue.get`` does. As
    rarely as it happens with a quick handler, it does with one that comes in the last microseconds.
    """

    @pytest.fixture
    def interrupted(self):
        """What makes a call, with a handler in the midst of it that ends after the time limit."""
        main, is_in_call, handled = threading.main_thread(), threading.Event(), threading.Event()

        def handle(*_: object) -> None:
            if is_in_call.is_set():
                time.sleep(LIMIT)
                handled.set()

        def interrupt() -> None:
            wait_until_it_waits(main, "call")
            signal.pthread_kill(main.ident, signal.SIGUSR1)

        def interrupted(call) -> None:
            # Again, if this machine stood still so long that the signal came too late.
            while not handled.is_set():
                with ThreadPoolExecutor() as pool:
                    pool.submit(interrupt)
                    is_in_call.set()
                    call()
                    is_in_call.clear()

        before = signal.signal(signal.SIGUSR1, handle)
        yield interrupted
        signal.signal(signal.SIGUSR1, before)

    @pytest.mark.parametrize("name", CALLS)
    def test_a_call(self, name, interrupted):
        def serve(peer: RawPeer) -> None:
            peer.authenticate()
            stay_silent(peer)

        with raw_server(serve) as uri, authenticated(uri) as client:

            def call() -> None:
                with ends_after(LIMIT), pytest.raises(PieTimeoutError):
                    CALLS[name](client)

            interrupted(call)

    @pytest.mark.parametrize("name", ["recv", "wait", "events"])
    def test_receiving(self, name, interrupted):
        with raw_server(launches_only) as uri, authenticated(uri) as client:
            instance = client.launch_instance_from_registry("x")

            def call() -> None:
                with ends_after(LIMIT), pytest.raises(PieTimeoutError):
                    received = getattr(instance, name)(timeout=LIMIT)
                    if name == "events":
                        next(received)

            interrupted(call)

    def test_map(self, interrupted):
        """Here it's the moment between two looks around that passes, and the limit is that of a launch."""

        def serve(peer: RawPeer) -> None:
            peer.authenticate()
            stay_silent(peer)

        with raw_server(serve) as uri, authenticated(uri, timeout=2 * LIMIT) as client:

            def call() -> None:
                with ends_after(2 * LIMIT), pytest.raises(PieTimeoutError):
                    list(client.map("x", [[]]))

            interrupted(call)

    def test_connect(self, interrupted):
        with raw_server(lambda peer: None) as uri:

            def call() -> None:
                with ends_after(LIMIT), pytest.raises(PieConnectTimeoutError):
                    PieClient(uri, connect_timeout=LIMIT).connect()

            interrupted(call)
            reader_is_gone()

    @pytest.mark.usefixtures("slow_look_up")
    def test_a_look_up_of_the_name(self, interrupted):
        def call() -> None:
            with ends_after(LIMIT), pytest.raises(PieConnectTimeoutError):
                PieClient("ws://pie.example", connect_timeout=LIMIT).connect()

        interrupted(call)


class TestAServerThatDoesNotRead:
    """The TCP window fills up, and nothing can be sent any more."""

    @pytest.fixture
    def uri(self):
        def serve(peer: RawPeer) -> None:
            peer.authenticate()

        with raw_server(serve) as uri:
            yield uri

    def test_a_large_upload(self, uri):
        with authenticated(uri) as client:
            with ends_after(LIMIT), pytest.raises(PieTimeoutError, match="does not read"):
                client.upload_program(no_component(64 * 1024 * 1024), timeout=LIMIT)

    def test_a_large_upload_without_progress(self, uri):
        with authenticated(uri, timeout=LIMIT) as client:
            begin = time.monotonic()
            with pytest.raises(PieTimeoutError):
                client.upload_program(no_component(64 * 1024 * 1024))
            assert time.monotonic() - begin < LIMIT + 4, "the last progress is when the window was full"

    def test_other_calls_meanwhile(self, uri):
        with authenticated(uri) as client:
            outcomes = []

            def upload() -> None:
                try:
                    client.upload_program(no_component(64 * 1024 * 1024), timeout=None)
                except PieConnectionError as error:
                    outcomes.append(error)

            thread = threading.Thread(target=upload)
            thread.start()
            wait_until_it_waits(thread, "send_all")
            for _ in range(2):
                with ends_after(LIMIT), pytest.raises(PieTimeoutError):
                    client.ping(timeout=LIMIT)
            with ends_within(CLOSE_LIMIT):
                client.close()
            thread.join(10)
            assert len(outcomes) == 1

    def test_after_the_limit_the_rest_of_the_message_is_sent_when_there_is_room(self):
        """Also without pings, and without another call."""
        may_read, is_complete = threading.Event(), threading.Event()

        def serve(peer: RawPeer) -> None:
            peer.authenticate()
            peer.launch()
            assert may_read.wait(30)
            assert len(peer.receive()["message"]) == 7 * 1024 * 1024
            is_complete.set()

        with raw_server(serve) as uri, authenticated(uri, ping_interval=None) as client:
            instance = client.launch_instance_from_registry("x")
            with pytest.raises(PieTimeoutError):
                instance.send("x" * (7 * 1024 * 1024), timeout=LIMIT)
            may_read.set()
            assert is_complete.wait(10)

    def test_after_the_limit_the_rest_of_the_message_comes_first(self):
        """What was begun when the limit came is finished, or the server would misunderstand all that follows."""
        may_read = threading.Event()

        def serve(peer: RawPeer) -> None:
            peer.authenticate()
            assert may_read.wait(30)
            while True:
                request = peer.receive()
                if request["type"] == "ping":
                    peer.respond(request, "Pong")

        with raw_server(serve) as uri, authenticated(uri) as client:
            with pytest.raises(PieTimeoutError):
                client.upload_program(b"\0asm" + os.urandom(16 * 1024 * 1024), timeout=LIMIT)
            may_read.set()
            assert client.ping(timeout=20) > 0


class TestClosing:
    """close() within two seconds, whatever the server does with the good-bye."""

    def close(self, serve) -> None:
        with raw_server(serve) as uri:
            client = PieClient(uri)
            client.connect()
            client.authenticate("alice")
            with ends_within(CLOSE_LIMIT):
                client.close()
            reader_is_gone(grace=0.1)

    def test_a_server_that_ignores_it(self):
        self.close(lambda peer: peer.authenticate())

    def test_a_server_that_answers_and_stays(self):
        def serve(peer: RawPeer) -> None:
            peer.authenticate()
            peer.socket.recv(65536)
            peer.socket.sendall(b"\x88\x02\x03\xe8")

        self.close(serve)

    def test_a_server_that_answers_with_half_a_frame(self):
        def serve(peer: RawPeer) -> None:
            peer.authenticate()
            peer.socket.recv(65536)
            peer.socket.sendall(b"\x88")

        self.close(serve)

    def test_a_server_that_goes_on_talking(self):
        def serve(peer: RawPeer) -> None:
            peer.authenticate()
            chatter = binary_frame(b"\x80" * 100) * 1000
            while True:
                peer.socket.sendall(chatter)

        self.close(serve)

    def test_a_reader_thread_that_does_not_end(self, monkeypatch):
        """One limit for all of it, and a margin for a machine that is busy."""
        may_finish = threading.Event()
        finish = WebSocket.finish

        def finish_late(websocket: WebSocket) -> None:
            may_finish.wait(10)
            finish(websocket)

        monkeypatch.setattr(WebSocket, "finish", finish_late)
        with raw_server(lambda peer: peer.authenticate()) as uri:
            client = PieClient(uri)
            client.connect()
            client.authenticate("alice")
            begin = time.monotonic()
            client.close()
            took = time.monotonic() - begin
            may_finish.set()
        assert took <= CLOSE_LIMIT - 0.1

    def test_while_another_thread_connects(self):
        accepted = threading.Event()
        with raw_server(lambda peer: accepted.set()) as uri:
            close_while_it_connects(PieClient(uri, connect_timeout=3), accepted)
