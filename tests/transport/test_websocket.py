"""An open WebSocket over a real TCP socket, against a server that the test moves step by step.

The server is ``websockets`` without its I/O (``ServerProtocol``): nothing is read or sent until the test says so,
which is what "both at once" takes.
"""

from __future__ import annotations

import socket
import struct
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from websockets.frames import Frame
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from pie_sync import PieConnectionError, PieTimeoutError
from pie_sync._transport import byte_stream
from pie_sync._transport import websocket as _websocket
from pie_sync._transport.byte_stream import ByteStream
from pie_sync._transport.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FRAGMENT_SIZE,
    PING,
    PONG,
    TEXT,
    encode_close,
    encode_frame,
    encode_message,
    opcode_and_payload,
)
from pie_sync._transport.websocket import WebSocket
from tests.faults.threads import wait_until, wait_until_it_waits
from tests.transport.test_frames import frame

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds that anything may take before the test fails rather than hangs.
LIMIT = 20.0

#: More bytes than the sockets below and their kernel buffers take: a send of so many waits for the server to read.
BIG = 2 << 20


class Server:
    """The server's end. Reads and sends only when told to; keeps every byte that came."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(LIMIT)
        self.socket = sock
        self.protocol = ServerProtocol(state=State.OPEN, max_size=None)
        self._received = bytearray()

    def flush(self) -> None:
        """Send what the protocol has to say."""
        for data in self.protocol.data_to_send():
            if data:
                self.socket.sendall(data)
            else:
                self.socket.shutdown(socket.SHUT_WR)

    def send(self, *messages: bytes) -> None:
        for message in messages:
            self.protocol.send_binary(message)
        self.flush()

    def receive(self, count: int = 1 << 16) -> bytes:
        """Take what there is, at most ``count`` bytes; wait until there is something. ``b""`` at the end."""
        data = self.socket.recv(count)
        self._received += data
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        return data

    def receive_frames(self, count: int) -> list[tuple[int, bytes]]:
        """Take bytes until ``count`` frames have come in all, and return them."""
        while len(self.frames()) < count:
            assert self.receive(), f"the connection ended after {self.frames()}"
        frames = self.frames()
        assert len(frames) == count
        return frames

    def receive_all(self) -> list[tuple[int, bytes]]:
        """Take bytes until the client ends the connection, and return all frames that it ever sent."""
        while self.receive():
            pass
        return self.frames()

    def frames(self) -> list[tuple[int, bytes]]:
        """Everything that came, also behind a close frame, where the protocol itself looks no more."""
        reader = StreamReader()
        reader.feed_data(bytes(self._received))
        frames = []
        while True:
            try:
                next(Frame.parse(reader.read_exact, mask=True))
            except StopIteration as complete:
                frames.append((int(complete.value.opcode), bytes(complete.value.data)))
            else:
                return frames


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection with small buffers: the client's and the server's."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.socket() as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
            ours.connect(listener.getsockname())
            theirs, _ = listener.accept()
            with theirs:
                yield ours, theirs


@pytest.fixture
def server(sockets) -> Server:
    return Server(sockets[1])


@pytest.fixture
def client(sockets) -> Iterator[WebSocket]:
    client = WebSocket(sockets[0], max_message_size=10_000)
    watchdog = threading.Timer(LIMIT, client.abort)  # a read() that waits for ever fails instead
    watchdog.start()
    yield client
    watchdog.cancel()
    watchdog.join()
    client.abort()
    client.finish()


class Sender(threading.Thread):
    """Sends messages from a thread of its own; :meth:`done` waits for it and raises what went wrong."""

    def __init__(self, client: WebSocket, *messages: bytes) -> None:
        super().__init__(name="sender")
        self._client = client
        self._messages = messages
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            for message in self._messages:
                self._client.send(encode_frame(BINARY, message), deadline=monotonic() + LIMIT)
        except BaseException as error:
            self._error = error

    def done(self) -> None:
        self.join(LIMIT)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error


def finish_in_thread(client: WebSocket) -> threading.Thread:
    thread = threading.Thread(target=client.finish, name="finish")
    thread.start()
    return thread


def read(client: WebSocket) -> list[tuple[int, object]]:
    messages = map(opcode_and_payload, client.read())
    return [(opcode, data if isinstance(data, str) else bytes(data)) for opcode, data in messages]


def read_end(client: WebSocket) -> str:
    """Read when nothing but the end must come; return its text."""
    with pytest.raises(PieConnectionError) as end:
        client.read()
    return str(end.value)


# --- how it waits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended_by", ["a pause", "a large read", "something sent"])
def test_the_next_of_a_quick_stream_is_waited_for_awake(client, server, monkeypatch, ended_by):
    spins = []

    def recv_waiting(buffer, timeout, spin):
        spins.append(spin)
        return original(buffer, timeout, spin)

    def receive(count, message=b"message"):
        for _ in range(count):
            server.send(message)
            assert read(client) == [(BINARY, message)]

    original = client._stream.recv_waiting
    monkeypatch.setattr(client._stream, "recv_waiting", recv_waiting)
    monkeypatch.setattr(_websocket, "_STREAM_INTERVAL", LIMIT)  # however busy the machine is
    receive(_websocket._STREAM_READS)
    assert set(spins) == {0.0}
    receive(1)
    assert spins.pop() == _websocket._SPIN

    if ended_by == "a pause":
        monkeypatch.setattr(_websocket, "_STREAM_INTERVAL", 0.0)
        receive(1)
    elif ended_by == "a large read":
        monkeypatch.setattr(_websocket, "_STREAM_READ_SIZE", 1000)
        receive(1, bytes(1000))
    else:
        client.send(encode_frame(BINARY, b"a question"), monotonic() + LIMIT)
        receive(1)
    receive(1)
    assert spins.pop() == 0.0


# --- the closing handshake (RFC 6455 sections 1.4, 5.5.1 and 7) -------------------------------------------


def test_the_server_closes_first(client, server):
    server.send(b"last words")
    server.protocol.send_close(1001, "going away")
    server.flush()
    assert read(client) == [(BINARY, b"last words")]
    assert read_end(client) == "the server closed the connection: 1001 going away"
    assert server.receive_frames(1) == [(CLOSE, encode_close(1001))]  # section 5.5.1: the code is echoed
    server.flush()
    client.finish()
    assert server.receive_all() == [(CLOSE, encode_close(1001))]
    assert server.protocol.state is State.CLOSED
    assert server.protocol.close_code == 1001


def test_the_client_closes_first(client, server):
    client.send_close(1000, "bye")
    server.send(b"on its way already")
    assert server.receive_frames(1) == [(CLOSE, encode_close(1000, "bye"))]
    server.flush()  # the server's answer, and the end of its half of the TCP connection
    assert read(client) == [(BINARY, b"on its way already")]
    assert read_end(client) == "the server closed the connection: 1000 bye"
    client.finish()
    assert server.receive_all() == [(CLOSE, encode_close(1000, "bye"))]
    assert server.protocol.state is State.CLOSED
    assert server.protocol.close_rcvd_then_sent


def test_both_close_at_once(client, server):
    server.protocol.send_close(1012, "restart")
    server.flush()
    client.send_close(1000, "bye")
    # Both close frames are on the wire, none is read.
    assert read_end(client) == "the server closed the connection: 1012 restart"
    assert server.receive_frames(1) == [(CLOSE, encode_close(1000, "bye"))]
    server.flush()
    client.finish()
    assert server.receive_all() == [(CLOSE, encode_close(1000, "bye"))]  # one, and no answer to theirs
    assert server.protocol.state is State.CLOSED
    assert not server.protocol.close_rcvd_then_sent


def test_a_close_without_a_code_is_answered(client, server):
    server.protocol.send_close()
    server.flush()
    assert read_end(client) == "the server closed the connection: 1005"
    # 1005 means "there was no code" and must not be sent: section 7.4.1.
    assert server.receive_frames(1) == [(CLOSE, encode_close(1000))]


@pytest.mark.parametrize("code", [1000, 1003, 1011, 1014, 3000, 4999])
def test_the_code_of_a_close_is_echoed(client, server, code):
    server.protocol.send_close(code)
    server.flush()
    assert read_end(client).endswith(f": {code}")
    assert server.receive_frames(1) == [(CLOSE, encode_close(code))]


def test_only_one_close_frame_is_sent(client, server):
    threads = [threading.Thread(target=client.send_close, args=(1000, "bye")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.send_close(1001)
    server.receive_frames(1)
    server.flush()
    read_end(client)
    client.send_close()
    client.finish()
    assert server.receive_all() == [(CLOSE, encode_close(1000, "bye"))]


def test_the_server_ends_the_tcp_connection(client, server, monkeypatch):
    # Section 7.1.1: the client waits for the server to do it.
    monkeypatch.setattr(_websocket, "_LINGER", LIMIT)
    client.send_close()
    server.protocol.send_close()
    server.flush()
    read_end(client)
    finishing = finish_in_thread(client)
    server.receive_frames(1)
    server.socket.settimeout(0.1)
    with pytest.raises(socket.timeout):
        server.receive()  # no end of the stream
    server.socket.settimeout(LIMIT)
    server.flush()
    assert server.receive() == b""
    finishing.join(LIMIT)
    assert not finishing.is_alive()


def test_a_server_that_does_not_end_the_tcp_connection_is_not_waited_for_long(client, server, monkeypatch):
    monkeypatch.setattr(_websocket, "_LINGER", 0.1)
    client.send_close()
    server.protocol.send_close()
    server.flush()
    read_end(client)
    client.finish()
    assert server.receive_all() == [(CLOSE, encode_close(1000))]


@pytest.mark.parametrize("said", [b"", frame(BINARY, b"x" * 100)[:50], frame(BINARY, b"x", fin=False)])
def test_the_connection_ends_without_a_close(client, server, said):
    server.socket.sendall(frame(BINARY, b"whole") + said)
    server.socket.shutdown(socket.SHUT_WR)
    assert read(client) == [(BINARY, b"whole")]
    assert "without a close frame" in read_end(client)
    client.finish()
    assert server.receive_all() == []


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("r" * 123, "r" * 123),
        ("r" * 124, "r" * 123),
        ("é" * 62, "é" * 61),
        ("r" + "é" * 61, "r" + "é" * 61),
        ("€" * 42, "€" * 41),
        ("𝄞" * 31, "𝄞" * 30),
    ],
)
def test_a_long_reason_is_cut_at_a_character(client, server, reason, sent):
    client.send_close(4000, reason)
    assert server.receive_frames(1) == [(CLOSE, struct.pack("!H", 4000) + sent.encode())]
    assert server.protocol.close_rcvd is not None
    assert server.protocol.close_rcvd.reason == sent


# --- violations (section 7.4.1) ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (frame(BINARY, b"x", masked=True), 1002),
        (frame(BINARY, b"x", rsv=4), 1002),
        (frame(3), 1002),
        (frame(0xB), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(BINARY, b"x", fin=False) + frame(BINARY, b"y"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(PONG, b"x", fin=False), 1002),
        (frame(CLOSE, b"x"), 1002),
        (frame(CLOSE, struct.pack("!H", 1005)), 1002),
        (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION), 1007),
        (frame(BINARY, b"x" * 10_001), 1009),
        (frame(BINARY, b"x" * 10_001)[:10], 1009),
        (frame(TEXT, b"x" * 6_000, fin=False) + frame(CONTINUATION, b"x" * 4_001), 1009),
    ],
)
def test_a_violation_is_told_with_its_code(client, server, stream, code):
    server.socket.sendall(frame(BINARY, b"before") + stream)
    assert read(client) == [(BINARY, b"before")]
    problem = read_end(client)
    assert "the server" in problem
    assert server.receive_frames(1) == [(CLOSE, encode_close(code, problem))]
    assert read_end(client) == problem  # the end stays the end
    server.flush()
    client.finish()
    assert server.receive_all() == [(CLOSE, encode_close(code, problem))]


def test_a_violation_after_our_close_is_not_told(client, server):
    client.send_close()
    server.socket.sendall(frame(3))
    assert "opcode 0x3" in read_end(client)
    server.receive_frames(1)
    server.flush()
    client.finish()
    assert server.receive_all() == [(CLOSE, encode_close(1000))]


# --- pings and pongs (sections 5.5.2 and 5.5.3) -----------------------------------------------------------


def test_pings_are_answered_with_their_payload_in_order(client, server):
    payloads = [b"", b"one", b"\x00\xff" * 62 + b"\x00", b"", *(b"%d" % number for number in range(50))]
    for number, payload in enumerate(payloads):
        server.protocol.send_ping(payload)
        if number == 3:
            server.protocol.send_binary(b"in between")
    server.protocol.send_binary(b"behind")
    server.flush()
    messages = []
    while len(messages) < 2:
        messages += read(client)
    assert messages == [(BINARY, b"in between"), (BINARY, b"behind")]
    assert server.receive_frames(len(payloads)) == [(PONG, payload) for payload in payloads]


def test_a_ping_between_fragments_is_answered_before_the_message_is_whole(client, server):
    server.protocol.send_binary(b"one", fin=False)
    server.protocol.send_ping(b"now")
    server.flush()
    reading = threading.Thread(target=client.read, name="reader")
    reading.start()
    assert server.receive_frames(1) == [(PONG, b"now")]
    assert reading.is_alive()
    server.protocol.send_continuation(b"two", fin=True)
    server.flush()
    reading.join(LIMIT)
    assert not reading.is_alive()


def test_unsolicited_pongs_are_ignored(client, server):
    for payload in (b"", b"x" * 125):
        server.protocol.send_pong(payload)
    server.send(b"data")
    assert read(client) == [(BINARY, b"data")]
    client.send_close()
    assert server.receive_frames(1) == [(CLOSE, encode_close(1000))]


def test_a_ping_is_answered_as_soon_as_a_message_that_is_being_sent_ends(client, server):
    sender = Sender(client, b"x" * BIG, b"y" * BIG)
    server.receive(1)  # the first message is under way
    for payload in (b"one", b"two", b"three"):
        server.protocol.send_ping(payload)
    server.send(b"go on")
    assert read(client) == [(BINARY, b"go on")]  # the pongs wait, the reading thread does not
    expected = [(BINARY, b"x" * BIG), (PONG, b"one"), (PONG, b"two"), (PONG, b"three"), (BINARY, b"y" * BIG)]
    assert server.receive_frames(5) == expected
    sender.done()


def test_whoever_waits_to_send_comes_after_the_message_that_is_being_sent(client, server):
    """And not after all that its sender still has: an upload has thousands of chunks."""
    more = [b"%d" % number for number in range(50)]
    upload = Sender(client, b"x" * BIG, *more)
    server.receive(1)  # the first message is under way
    request = Sender(client, b"request")
    wait_until_it_waits(request, "send")
    first, second, *others = [data for _, data in server.receive_frames(52)]
    assert (first, second, others) == (b"x" * BIG, b"request", more)
    upload.done()
    request.done()


def test_whoever_waits_to_send_gives_up_in_time_and_keeps_nobody_waiting(client, server):
    upload = Sender(client, b"x" * BIG, b"y" * BIG)
    server.receive(1)
    in_line = Sender(client, b"in line")
    wait_until_it_waits(in_line, "_wait_in_line")
    for _ in range(2):
        with pytest.raises(PieTimeoutError, match="busy with other messages: nothing was sent"):
            client.send(encode_frame(BINARY, b"too late"), monotonic() + 0.05)
    expected = [(BINARY, b"x" * BIG), (BINARY, b"in line"), (BINARY, b"y" * BIG)]
    assert server.receive_frames(3) == expected
    upload.done()
    in_line.done()


def test_a_ping_after_our_close_is_answered(client, server):
    # Section 5.5.2: a pong is due unless a close frame was received.
    client.send_close()
    server.protocol.send_ping(b"still there?")
    server.send(b"data")
    assert read(client) == [(BINARY, b"data")]
    assert server.receive_frames(2) == [(CLOSE, encode_close(1000)), (PONG, b"still there?")]


def test_keep_alive_pings_are_sent_and_their_pong_is_enough(sockets, server):
    client = WebSocket(sockets[0], max_message_size=1000, ping_interval=0.01, ping_timeout=LIMIT)
    reading = threading.Thread(target=read_end, args=(client,), name="reader")
    reading.start()
    for count in (1, 2, 3):
        opcode, _ = server.receive_frames(count)[-1]
        assert opcode == PING
        server.flush()  # the pong; only it lets the next ping come
    client.abort()
    reading.join(LIMIT)
    client.finish()
    assert not reading.is_alive()


def test_silence_after_a_ping_means_that_the_connection_is_lost(sockets, server):
    client = WebSocket(sockets[0], max_message_size=1000, ping_interval=0.01, ping_timeout=0.05)
    assert "not even an answer to a ping" in read_end(client)
    client.finish()
    assert [opcode for opcode, _ in server.receive_all()] == [PING]


# --- what must not be sent, and not be taken --------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
def test_what_comes_after_a_close_is_ignored(client, server, at_once):
    behind = [frame(BINARY, b"ignored"), frame(PING, b"ignored"), frame(CLOSE, encode_close(1011)), frame(3)]
    close = frame(CLOSE, encode_close(1000, "bye"))
    server.socket.sendall(frame(BINARY, b"data") + close + (b"".join(behind) if at_once else b""))
    assert read(client) == [(BINARY, b"data")]
    assert read_end(client) == "the server closed the connection: 1000 bye"
    if not at_once:
        server.socket.sendall(b"".join(behind))
    assert read_end(client) == "the server closed the connection: 1000 bye"
    server.receive_frames(1)
    server.flush()
    client.finish()
    assert server.receive_all() == [(CLOSE, encode_close(1000))]


def test_nothing_is_sent_after_our_close(client, server):
    client.send(encode_frame(BINARY, b"before"), deadline=None)
    client.send_close()
    with pytest.raises(PieConnectionError, match="being closed"):
        client.send(encode_frame(BINARY, b"behind"), deadline=None)
    assert server.receive_frames(2) == [(BINARY, b"before"), (CLOSE, encode_close(1000))]
    server.flush()
    read_end(client)
    client.finish()
    assert len(server.receive_all()) == 2


def test_nothing_is_sent_after_the_answer_to_a_close(client, server):
    server.protocol.send_close()
    server.flush()
    read_end(client)
    with pytest.raises(PieConnectionError, match="being closed"):
        client.send(encode_frame(BINARY, b"behind"), deadline=None)
    server.receive_frames(1)
    server.flush()
    client.finish()
    assert server.receive_all() == [(CLOSE, encode_close(1000))]


def test_a_close_waits_for_the_message_that_is_being_sent(client, server):
    sender = Sender(client, b"x" * BIG)
    server.receive(1)
    client.send_close()
    assert server.receive_frames(2) == [(BINARY, b"x" * BIG), (CLOSE, encode_close(1000))]
    sender.done()


def test_the_server_closes_while_a_message_is_being_sent(client, server):
    sender = Sender(client, b"x" * BIG, b"never sent")
    server.receive(1)
    server.protocol.send_close(1001)
    server.flush()
    assert read_end(client).endswith(": 1001")
    assert server.receive_frames(2) == [(BINARY, b"x" * BIG), (CLOSE, encode_close(1001))]
    with pytest.raises(PieConnectionError, match="being closed"):
        sender.done()
    server.flush()
    client.finish()
    assert len(server.receive_all()) == 2


def test_a_message_that_was_not_sent_in_time_is_completed_before_a_close(client, server):
    with pytest.raises(PieTimeoutError, match="not sent in time"):
        client.send(encode_frame(BINARY, b"x" * BIG), deadline=0)
    client.send_close()
    finishing = threading.Thread(target=read_end, args=(client,), name="reader")  # sends what is left over
    finishing.start()
    assert server.receive_frames(2) == [(BINARY, b"x" * BIG), (CLOSE, encode_close(1000))]
    server.flush()
    finishing.join(LIMIT)
    assert not finishing.is_alive()


def test_after_our_close_a_message_is_refused_without_waiting_for_left_overs(client):
    with pytest.raises(PieTimeoutError, match="not sent in time"):
        client.send(encode_frame(BINARY, b"x" * BIG), deadline=0)
    client.send_close()
    with pytest.raises(PieConnectionError, match="being closed"):  # without limit, and nobody reads
        client.send(encode_frame(BINARY, b"behind"), deadline=None)


def test_no_message_overtakes_the_close_when_left_overs_are_sent_first(client, server, monkeypatch):
    with pytest.raises(PieTimeoutError, match="not sent in time"):
        client.send(encode_frame(BINARY, b"x" * BIG), deadline=0)
    waits_for_room = threading.Event()

    def wait(**options: Any) -> None:
        waits_for_room.set()
        ByteStream.wait(client._stream, **options)

    monkeypatch.setattr(client._stream, "wait", wait)
    sender = Sender(client, b"must not follow the close")
    assert waits_for_room.wait(LIMIT)  # for what is left over
    client.send_close()
    server.receive_frames(2)
    with pytest.raises(PieConnectionError, match="being closed"):
        sender.done()
    server.flush()
    read_end(client)
    client.finish()
    assert server.receive_all() == [(BINARY, b"x" * BIG), (CLOSE, encode_close(1000))]


def test_a_pong_that_found_no_room_is_sent_when_there_is_some(client, server, monkeypatch):
    # A message is being sent when the ping comes, so the reading thread leaves the pong to the sender. Which gives
    # up, for want of room, when the reading thread already waits for input: that moment is its deadline.
    reader_waits = threading.Event()

    def wait(**options: Any) -> None:
        if threading.current_thread() is reader:
            if client._pongs:
                reader_waits.set()
            ByteStream.wait(client._stream, **options)
        else:
            assert reader_waits.wait(LIMIT)

    def clock() -> float:
        return monotonic() + (LIMIT if reader_waits.is_set() else 0)

    monkeypatch.setattr(client._stream, "wait", wait)
    monkeypatch.setattr(byte_stream, "monotonic", clock)
    server.protocol.send_ping(b"are you there?")
    server.flush()
    reader = threading.Thread(target=read_end, args=(client,), name="reader")
    sender = Sender(client, b"x" * BIG)
    server.receive(1)
    reader.start()
    with pytest.raises(PieTimeoutError, match="not sent in time"):
        sender.done()
    server.socket.settimeout(3)
    assert server.receive_frames(2) == [(BINARY, b"x" * BIG), (PONG, b"are you there?")]
    client.abort()
    reader.join(LIMIT)
    assert not reader.is_alive()


def test_left_overs_are_sent_when_something_comes(client, server, monkeypatch):
    with pytest.raises(PieTimeoutError, match="not sent in time"):
        client.send(encode_frame(BINARY, b"x" * BIG), deadline=0)
    waits = []

    def wait(**options: Any) -> None:
        waits.append(options)
        ByteStream.wait(client._stream, **options)

    monkeypatch.setattr(client._stream, "wait", wait)
    reading = threading.Thread(target=read_end, args=(client,), name="reader")
    reading.start()
    assert server.receive_frames(1) == [(BINARY, b"x" * BIG)]
    assert len(waits) < 1000, "waiting for room, and then not using it, is a busy loop"
    client.abort()
    reading.join(LIMIT)
    assert not reading.is_alive()


@pytest.mark.parametrize("waits_in", ["recv_waiting", "wait"])
def test_left_overs_are_sent_when_there_is_room_though_the_reader_waits_for_input(sockets, monkeypatch, waits_in):
    """Without pings nothing wakes the reader: it was there first, and waits for input alone."""
    monkeypatch.setattr(byte_stream, "_CAN_WAIT_IN_RECV", waits_in == "recv_waiting")
    client, server = WebSocket(sockets[0], max_message_size=10_000), Server(sockets[1])
    reader = threading.Thread(target=read_end, args=(client,), name="reader")
    reader.start()
    wait_until_it_waits(reader, waits_in)
    with pytest.raises(PieTimeoutError, match="not sent in time"):
        client.send(encode_frame(BINARY, b"x" * BIG), deadline=0)
    assert server.receive_frames(1) == [(BINARY, b"x" * BIG)]
    wait_until(lambda: "pie-sync flusher" not in [thread.name for thread in threading.enumerate()])

    # Again, and this time the connection ends before there is room.
    with pytest.raises(PieTimeoutError, match="not sent in time"):
        client.send(encode_frame(BINARY, b"x" * BIG), deadline=0)
    client.abort()
    reader.join(LIMIT)
    client.finish()
    assert "pie-sync flusher" not in [thread.name for thread in threading.enumerate()]


def test_left_overs_wait_for_the_next_message_where_there_can_be_no_more_threads(client, server, monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    reader = threading.Thread(target=read_end, args=(client,), name="reader")
    reader.start()
    wait_until_it_waits(reader, "read")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(PieTimeoutError, match="not sent in time"):
        client.send(encode_frame(BINARY, b"x" * BIG), deadline=0)
    monkeypatch.undo()
    sender = Sender(client, b"behind")
    assert server.receive_frames(2) == [(BINARY, b"x" * BIG), (BINARY, b"behind")]
    sender.done()
    client.abort()
    reader.join(LIMIT)


def test_pongs_that_nobody_reads_are_bounded(client, server):
    sender = Sender(client, b"x" * BIG)
    server.receive(1)  # it holds the line, and waits for room
    for number in range(5000):
        server.protocol.send_ping(b"%d" % number)
        if number % 500 == 499:
            server.send(b"next")
            assert read(client) == [(BINARY, b"next")]
    assert len(client._pongs) <= 100
    message, *pongs = server.receive_frames(101)
    assert message == (BINARY, b"x" * BIG)
    assert pongs == [(PONG, b"%d" % number) for number in range(4900, 5000)]
    sender.done()


# --- long messages (section 5.4) and the farewell ---------------------------------------------------------------

#: A message of four fragments, the last of them short.
LONG = bytes(range(256)) * (3 * FRAGMENT_SIZE // 256) + b"end"


def fragments(message: bytes) -> list[tuple[int, bytes]]:
    pieces = [message[start : start + FRAGMENT_SIZE] for start in range(0, len(message), FRAGMENT_SIZE)]
    return [(CONTINUATION if index else BINARY, piece) for index, piece in enumerate(pieces)]


def test_control_frames_of_other_threads_go_between_fragments(client, server):
    sender = threading.Thread(
        target=client.send, args=(encode_message(LONG), monotonic() + LIMIT), name="fragments sender"
    )
    sender.start()
    server.receive(1)  # so the first fragment is being written, and finds no room
    server.protocol.send_ping(b"are you there?")
    server.flush()
    reader = threading.Thread(target=read_end, args=(client,), name="reader")
    reader.start()
    wait_until(lambda: bool(client._pongs))
    posted = threading.Thread(target=client.post, args=(encode_frame(BINARY, b"posted"),))
    posted.start()
    posted.join(LIMIT)
    expected = fragments(LONG)
    received = server.receive_frames(len(expected) + 2)
    pong = received.index((PONG, b"are you there?"))
    assert 0 < pong < len(expected), "not between two fragments"
    assert received[:pong] + received[pong + 1 :] == [*expected, (BINARY, b"posted")]  # never a message in between
    sender.join(LIMIT)
    client.abort()
    reader.join(LIMIT)
    assert not reader.is_alive()


def test_what_is_left_of_a_fragmented_message_goes_first(client, server):
    with pytest.raises(PieTimeoutError, match="not sent in time"):
        client.send(encode_message(LONG), deadline=0)
    with pytest.raises(PieTimeoutError, match="nothing was sent"):
        client.send(encode_frame(BINARY, b"too early"), deadline=0)
    sender = Sender(client, b"behind")
    expected = [*fragments(LONG), (BINARY, b"behind")]
    assert server.receive_frames(len(expected)) == expected
    sender.done()


def test_a_close_waits_for_the_end_of_a_fragmented_message(client, server):
    with pytest.raises(PieTimeoutError, match="not sent in time"):
        client.send(encode_message(LONG), deadline=0)
    client.send_close()
    reading = threading.Thread(target=read_end, args=(client,), name="reader")
    reading.start()
    expected = [*fragments(LONG), (CLOSE, encode_close(1000))]
    assert server.receive_frames(len(expected)) == expected
    client.abort()
    reading.join(LIMIT)


def test_a_handler_that_raises_between_fragments_ends_the_connection(client, server, monkeypatch):
    written = []

    def send_all(data: memoryview, deadline: float | None) -> memoryview:
        written.append(len(data))
        if len(written) == 2:
            raise KeyboardInterrupt
        return memoryview(b"")

    monkeypatch.setattr(client._stream, "send_all", send_all)
    with pytest.raises(KeyboardInterrupt):
        client.send(encode_message(LONG), monotonic() + LIMIT)
    assert server.receive_all() == []
    assert "ended the connection" in read_end(client)


def test_the_counters_count_a_fragmented_message_once(client, server):
    sender = threading.Thread(target=server.receive_frames, args=(len(fragments(LONG)),))
    sender.start()
    client.send(encode_message(LONG), monotonic() + LIMIT)
    sender.join(LIMIT)
    assert client._counters.messages_sent == 1
    assert client._counters.bytes_sent == sum(map(len, encode_message(LONG)))


def test_the_farewell_goes_right_before_the_close_frame_in_one_write(sockets, monkeypatch):
    client = WebSocket(sockets[0], max_message_size=10_000, farewell=lambda: b"good-bye")
    server = Server(sockets[1])
    writes = []

    def send_all(data: memoryview, deadline: float | None) -> memoryview:
        writes.append(bytes(data))
        return original(data, deadline)

    original = client._stream.send_all
    monkeypatch.setattr(client._stream, "send_all", send_all)
    client.send_close()
    client.send_close()
    assert len(writes) == 1
    assert server.receive_frames(2) == [(BINARY, b"good-bye"), (CLOSE, encode_close(1000))]
    server.flush()
    read_end(client)
    client.finish()


def test_a_close_that_is_an_answer_has_no_farewell(sockets):
    client = WebSocket(sockets[0], max_message_size=10_000, farewell=lambda: b"good-bye")
    server = Server(sockets[1])
    server.protocol.send_close(1001)
    server.flush()
    read_end(client)
    client.finish()
    assert server.receive_all() == [(CLOSE, encode_close(1001))]


def test_a_violation_is_told_with_the_farewell(sockets):
    client = WebSocket(sockets[0], max_message_size=10, farewell=lambda: b"good-bye")
    server = Server(sockets[1])
    server.send(bytes(11))
    problem = read_end(client)
    client.finish()
    assert server.receive_all() == [(BINARY, b"good-bye"), (CLOSE, encode_close(1009, problem))]
