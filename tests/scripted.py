"""A server whose messages are scripted by a test: for faults that no real server can be made to show.

Its WebSocket is real (the ``websockets`` library); only the messages are scripted.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Any, Callable

import msgpack
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from pie_sync import PieClient

AUTHENTICATED = "Authenticated (Engine disabled authentication)"


class Peer:
    """The server's end of one connection, with methods for the messages that a script needs."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection

    def receive(self, timeout: float = 10) -> dict[str, Any]:
        """Return the next message; skip those of the process protocol, like a server of the instance protocol."""
        while True:
            message = msgpack.unpackb(self.connection.recv(timeout))
            if message["type"] != "auth_identify":
                return message

    def send(self, **message: Any) -> None:
        self.connection.send(msgpack.packb(message))

    def send_together(self, *messages: dict[str, Any]) -> None:
        """Send messages in one write, so that one read brings them."""
        for message in messages:
            self.connection.protocol.send_binary(msgpack.packb(message))
        self.connection.socket.sendall(b"".join(self.connection.protocol.data_to_send()))

    def send_raw(self, data: bytes | str) -> None:
        self.connection.send(data)

    def respond(self, request: dict[str, Any], result: str = "", successful: bool = True) -> None:
        self.send(type="response", corr_id=request["corr_id"], successful=successful, result=result)

    def authenticate(self) -> None:
        """Authenticate the client, under any name."""
        request = self.receive()
        assert request["type"] == "identification"
        self.respond(request, AUTHENTICATED)

    def launch(self, instance_id: str = "instance-1") -> None:
        """Answer the next launch."""
        request = self.receive()
        assert request["type"].startswith("launch_instance")
        self.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message=instance_id)

    def event(self, event: int, message: str, instance_id: str = "instance-1") -> None:
        self.send(type="instance_event", instance_id=instance_id, event=event, message=message)


def connect(uri: str, *, timeout: float = 10, **options: Any) -> PieClient:
    """Return a client that is connected, and not authenticated."""
    client = PieClient(uri, timeout=timeout, **options)
    client.connect()
    return client


@contextmanager
def scripted_server(script: Callable[[Peer], None], **options: Any):
    """Serve every connection with ``script``; yield the URI. An exception of the script fails the test."""
    failures: list[BaseException] = []

    def handler(connection: ServerConnection) -> None:
        try:
            script(Peer(connection))
        except ConnectionClosed:
            pass
        except BaseException as failure:
            failures.append(failure)
            raise

    with serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None, **options) as server:
        thread = threading.Thread(target=server.serve_forever, name="scripted server")
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()
    if failures:
        raise failures[0]


def wait_for_close(peer: Peer, *, answer_pings: bool = False) -> None:
    """Wait until the client closes the connection."""
    try:
        while True:
            request = msgpack.unpackb(peer.connection.recv(60))
            if answer_pings and request["type"] == "ping":
                peer.respond(request, "Pong")
    except ConnectionClosed:
        pass
