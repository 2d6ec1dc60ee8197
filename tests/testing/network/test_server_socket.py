"""What servers up to Pie 0.4 do with close frames and with frames that are too large; Nagle's algorithm."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
import websocket

from pie_sync.testing import LocalServer, ProgramContext
from tests.testing.conftest import Connect
from tests.testing.raw import PATIENCE, RawClient, Wire
from tests.testing.raw_process import ProcessClient

MIB = 1024 * 1024
SILENCE = 0.3  # seconds
BINARY, CONTINUATION = websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_CONT
CLOSE = websocket.ABNF.OPCODE_CLOSE


@pytest.fixture(params=["0.2", "0.2-names", "0.3", "0.4", "0.5"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def only(*protocols: str) -> Any:
    return pytest.mark.parametrize("protocol", protocols)


@pytest.fixture
def messages(server: LocalServer, protocol: str) -> str:
    """The name of a program that tells the size of each message."""

    @server.program("sizes@1.0.0")
    def sizes(ctx: ProgramContext) -> None:
        while True:
            ctx.send(str(len(ctx.receive())))

    return "sizes@1.0.0"


def frame(payload: bytes, opcode: int, fin: int = 1) -> bytes:
    """Return a frame of a client, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xff" + size.to_bytes(8, "big")
    return bytes([fin << 7 | opcode]) + length + bytes(4) + payload


def request(kind: str, **fields: Any) -> bytes:
    return frame(msgpack.packb({"type": kind, **fields}, use_bin_type=True), BINARY)


def write(wire: Wire, data: bytes) -> None:
    wire.socket.sock.sendall(data)


def close_frame_of(wire: Wire) -> bytes:
    """Return the payload of the next frame, which must be a close frame."""
    opcode, data = wire.socket.recv_data()
    assert opcode == CLOSE
    return bytes(data)


def assert_silent(wire: Wire) -> None:
    wire.socket.settimeout(SILENCE)
    with pytest.raises(websocket.WebSocketTimeoutException):
        wire.socket.recv_data()
    wire.socket.settimeout(PATIENCE)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# The close frame

BYE = frame(b"\x03\xe8", CLOSE)


@only("0.3", "0.4")
@pytest.mark.parametrize("username", ["alice", None])
def test_a_close_frame_alone_is_not_answered_and_the_socket_leaks(
    server: LocalServer, connect: Connect, username: str | None
) -> None:
    for leaks in (1, 2, 3):
        client = connect(username)
        write(client, BYE)
        assert_silent(client)
        assert server.leaked_connections == leaks - 1
        client.vanish()
        wait_for(lambda leaks=leaks: server.leaked_connections == leaks)
    connect().assert_unanswered()


@only("0.3", "0.4")
@pytest.mark.parametrize(
    ("username", "kind", "fields"), [("alice", "ping", {}), (None, "auth_prove", {"signature": ""})]
)
def test_a_close_frame_behind_a_request_is_answered(
    server: LocalServer, connect: Connect, username: str | None, kind: str, fields: dict[str, str]
) -> None:
    for _ in range(20):
        client = connect(username)
        write(client, request(kind, corr_id=77, **fields) + BYE)
        assert client.receive()["corr_id"] == 77
        assert close_frame_of(client) == b"\x03\xe8"
        assert client.socket.sock.recv(1) == b""
        client.vanish()
    assert server.leaked_connections == 0


@only("0.4")
def test_an_event_after_the_close_frame_lets_it_be_answered(server: LocalServer, client: ProcessClient) -> None:
    @server.program("sender@1.0.0")
    def sender(ctx: ProgramContext) -> None:
        ctx.receive()
        ctx.send("late")

    process_id = client.launch("sender@1.0.0")
    client.signal(process_id, "")
    write(client, BYE)
    assert client.event() == ("message", "late")
    while client.socket.recv_data()[0] != CLOSE:
        pass
    assert server.leaked_connections == 0


@only("0.2", "0.2-names", "0.5")
def test_other_servers_answer_the_close_frame(server: LocalServer, client: RawClient) -> None:
    write(client, BYE)
    assert close_frame_of(client) == b"\x03\xe8"
    client.vanish()
    assert server.leaked_connections == 0


@only("0.4")
def test_a_server_closes_what_it_leaked(server: LocalServer, client: ProcessClient) -> None:
    write(client, BYE)
    client.socket.sock.shutdown(socket.SHUT_WR)
    wait_for(lambda: server.leaked_connections == 1)
    server.close()
    assert server.leaked_connections == 0
    assert client.socket.sock.recv(1) == b""


@only("0.4")
def test_a_connection_that_breaks_without_a_close_frame_does_not_leak(
    server: LocalServer, connect: Connect
) -> None:
    client = connect()
    client.vanish()
    wait_for(lambda: not server._clients)
    assert server.leaked_connections == 0


# Frames and messages that are too large


def signal_of(client: RawClient | ProcessClient, instance_id: str, size: int) -> bytes:
    """Return a message of this size, in which another one is sent to an instance."""
    kind, field = (
        ("signal_process", "process_id")
        if isinstance(client, ProcessClient)
        else ("signal_instance", "instance_id")
    )
    message = {"type": kind, field: instance_id, "message": ""}
    overhead = len(msgpack.packb({**message, "message": "x" * 70_000})) - 70_000
    return bytes(msgpack.packb({**message, "message": "x" * (size - overhead)}))


def fragments(message: bytes) -> Iterator[bytes]:
    for begin in range(0, len(message), MIB):
        opcode = CONTINUATION if begin else BINARY
        yield frame(message[begin : begin + MIB], opcode, fin=int(begin + MIB >= len(message)))


def received_size(client: RawClient | ProcessClient) -> int:
    message = client.receive()
    return int(message.get("message") or message["value"])


def test_a_frame_of_16_mib_is_taken(client: RawClient, messages: str) -> None:
    message = signal_of(client, client.launch(messages), 16 * MIB)
    write(client, frame(message, BINARY))
    assert 0 < len(message) - received_size(client) < 200


@only("0.2", "0.2-names", "0.4")
def test_a_message_of_64_mib_is_taken_in_fragments(client: RawClient, messages: str) -> None:
    message = signal_of(client, client.launch(messages), 64 * MIB)
    for fragment in fragments(message):
        write(client, fragment)
    assert 0 < len(message) - received_size(client) < 200


def too_large(client: RawClient | ProcessClient, instance_id: str, in_fragments: bool) -> Iterator[bytes]:
    if in_fragments:
        yield from fragments(signal_of(client, instance_id, 64 * MIB + 1))
    else:
        yield frame(signal_of(client, instance_id, 16 * MIB + 1), BINARY)


@only("0.2", "0.2-names")
@pytest.mark.parametrize("in_fragments", [False, True])
def test_up_to_0_2_what_is_too_large_ends_the_connection(
    connect: Connect, messages: str, in_fragments: bool
) -> None:
    client, other = connect(), connect()
    instance_id = client.launch(messages)
    try:
        for piece in too_large(client, instance_id, in_fragments):
            write(client, piece)
        assert close_frame_of(client) == b""
    except OSError:
        pass  # closed before all was sent
    while other.statuses()[instance_id] == "Attached":
        pass


@only("0.3", "0.4")
@pytest.mark.parametrize("in_fragments", [False, True])
def test_0_3_and_0_4_go_deaf(connect: Connect, messages: str, in_fragments: bool) -> None:
    client = connect()
    process_id = client.launch(messages)
    client.socket.settimeout(SILENCE)
    pieces = too_large(client, process_id, in_fragments)
    write(client, request("ping", corr_id=77))
    with pytest.raises(TimeoutError if sys.version_info >= (3, 10) else socket.timeout):
        for piece in pieces:
            write(client, piece)
        while True:  # until the buffers of the system are full
            write(client, frame(bytes(MIB), websocket.ABNF.OPCODE_PING))
    client.socket.settimeout(PATIENCE)
    assert client.receive()["corr_id"] == 77
    assert_silent(client)
    assert connect().ids() == {process_id}


# Nagle's algorithm


@only("0.2")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="delayed acknowledgements differ")
def test_without_tcp_nodelay_a_launch_takes_as_long_as_a_delayed_acknowledgement(connect: Connect) -> None:
    with LocalServer(protocol="0.2", nagle=True) as server:
        server.program("short")(lambda ctx: ctx.stdout("x"))
        client = connect(to=server)
        durations = []
        for _ in range(30):
            started = time.monotonic()
            assert len(list(client.events(client.launch("short")))) == 2
            durations.append(time.monotonic() - started)
    assert sorted(durations)[15] > 0.03
