"""A server that has only a socket: for what no WebSocket server would do."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable

import msgpack
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from tests.scripted import AUTHENTICATED

if TYPE_CHECKING:
    from collections.abc import Iterator


class RawPeer:
    """The server's end of one connection.

    Attributes:
        socket: the connection's socket, for the test to use.
        stopped: set when the test is over.
        pongs: the payloads of the pongs that arrived.
    """

    def __init__(self, sock: socket.socket, stopped: threading.Event) -> None:
        self.socket = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stopped = stopped
        self._protocol = ServerProtocol(max_size=None)
        self.pongs: list[bytes] = []
        self._events: list = []
        self._fragments: list[bytes] = []

    def upgrade(self) -> None:
        """Answer the HTTP request."""
        request = self._next_event()
        self._protocol.send_response(self._protocol.accept(request))
        self.socket.sendall(b"".join(self._protocol.data_to_send()))

    def receive(self) -> dict:
        """Return the next message; skip those of the process protocol, like a server of the instance protocol.

        Raises:
            EOFError: the client has closed the connection.
        """
        while True:
            frame = self._next_event()
            if frame.opcode in (Opcode.BINARY, Opcode.CONT):
                self._fragments.append(frame.data)
                if not frame.fin:
                    continue
                message = msgpack.unpackb(b"".join(self._fragments))
                self._fragments.clear()
                if message["type"] != "auth_identify":
                    return message
            if frame.opcode is Opcode.PONG:
                self.pongs.append(bytes(frame.data))

    def _next_event(self):
        while not self._events:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._protocol.receive_data(data)
            self._events += self._protocol.events_received()
            self.socket.sendall(b"".join(self._protocol.data_to_send()))  # the answer to a ping or a close
            if self._protocol.close_expected():
                raise EOFError
        return self._events.pop(0)

    def send(self, **message: object) -> None:
        self.socket.sendall(binary_frame(msgpack.packb(message)))

    def respond(self, request: dict, result: str) -> None:
        self.send(type="response", corr_id=request["corr_id"], successful=True, result=result)

    def ping(self, payload: bytes) -> None:
        self.socket.sendall(Frame(Opcode.PING, payload).serialize(mask=False))

    def wait_until_read(self) -> None:
        """Wait until the client has handled everything sent to it. Use it only while the client sends nothing."""
        for _ in range(2):  # a pong is sent before the other frames of the same read are handled
            self.ping(b"up to here")
            while self._next_event().opcode is not Opcode.PONG:
                pass

    def authenticate(self) -> None:
        """Answer the HTTP request, and authenticate the client under any name."""
        self.upgrade()
        self.authenticate_only()

    def authenticate_only(self) -> None:
        """Authenticate the client under any name, on a connection that is open."""
        self.respond(self.receive(), AUTHENTICATED)

    def launch(self, instance_id: str = "instance-1") -> None:
        """Answer the next launch."""
        corr_id = self.receive()["corr_id"]
        self.send(type="instance_launch_result", corr_id=corr_id, successful=True, message=instance_id)

    def drip(self, data: bytes, interval: float = 1.0) -> None:
        """Send the data byte by byte, until the test is over."""
        for position in range(len(data)):
            self.socket.sendall(data[position : position + 1])
            if self.stopped.wait(interval):
                return


def binary_frame(payload: bytes) -> bytes:
    """Return the frame of one message."""
    return Frame(Opcode.BINARY, payload).serialize(mask=False)


def local_listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@contextmanager
def raw_server(
    serve: Callable[[RawPeer], None], new_listener: Callable[[], socket.socket] = local_listener
) -> Iterator[str]:
    """Call ``serve`` for each connection, in a thread of its own; yield the URI.

    The connections stay open until the end. If the client closes its connection, ``serve`` ends without a failure;
    any other exception fails the test.
    """
    stopped = threading.Event()
    failures: list[BaseException] = []
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def run(connection: socket.socket) -> None:
        try:
            serve(RawPeer(connection, stopped))
            stopped.wait(60)
        except (OSError, EOFError):
            _shut_down(connection)
        except BaseException as failure:
            failures.append(failure)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threads.append(threading.Thread(target=run, args=(connection,), name="raw server"))
            threads[-1].start()

    with new_listener() as listener:
        acceptor = threading.Thread(target=accept, name="raw server")
        acceptor.start()
        try:
            host, port = listener.getsockname()
            yield f"ws://{host}:{port}"
        finally:
            stopped.set()
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for connection in connections:
                _shut_down(connection)
            for thread in threads:
                thread.join(10)
            for connection in connections:
                connection.close()
    if failures:
        raise failures[0]


def _shut_down(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
