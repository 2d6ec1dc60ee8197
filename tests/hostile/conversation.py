"""A connection on which the test sends the server's messages, also those that no server would send."""

from __future__ import annotations

import queue
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgpack

from pie_sync import Event, PieClient, ProtocolError
from tests.faults.raw_server import RawPeer, binary_frame, raw_server

if TYPE_CHECKING:
    from collections.abc import Iterator


class Conversation:
    """An authenticated client, and the server's end of its connection.

    The server answers pings and launches by itself. All other messages of the client are in :attr:`requests`.

    Attributes:
        client: the client.
        requests: the messages that the client sent.
        witness: an instance that must receive exactly its own events, whatever else the server sends.
    """

    WITNESS = "the witness"

    def __init__(self, client: PieClient, peers: queue.Queue[RawPeer], requests: queue.Queue[dict]) -> None:
        self.client = client
        self.requests = requests
        self._peers = peers
        self._peer = peers.get(timeout=10)
        self._told = 0
        self.witness = client.launch_instance_from_registry(self.WITNESS)

    def connect(self) -> None:
        """Connect again, if the client is closed."""
        if self.client.closed:
            self.client.connect()
            self.client.authenticate("alice")
            self._peer = self._peers.get(timeout=10)
            self.witness = self.client.launch_instance_from_registry(self.WITNESS)

    def say(self, *messages: dict[str, Any]) -> None:
        """Send messages, in one write."""
        self.say_packed(*map(msgpack.packb, messages))

    def say_packed(self, *payloads: bytes) -> None:
        self.say_bytes(b"".join(map(binary_frame, payloads)))

    def say_bytes(self, data: bytes) -> None:
        self._peer.socket.sendall(data)

    def hang_up(self) -> None:
        self._peer.socket.shutdown(2)

    def prove_life(self, *, errors: bool = False) -> list[Any]:
        """Check that the client goes on reading: it receives the witness's next event, and the answer to a ping.

        Returns:
            The events that the witness received before, and with ``errors`` also its errors.
        """
        self._told += 1
        text = f"event {self._told}"
        self.say({"type": "instance_event", "instance_id": self.WITNESS, "event": 0, "message": text})
        before: list[Any] = []
        while (got := self._receive(errors)) != (Event.Message, text):
            before.append(got)
        assert self.client.ping(timeout=10) > 0
        return before

    def _receive(self, errors: bool) -> Any:
        try:
            return self.witness.recv(10)
        except ProtocolError as error:
            if not errors:
                raise
            return error


@contextmanager
def conversation(**options: Any) -> Iterator[Conversation]:
    peers: queue.Queue[RawPeer] = queue.Queue()
    requests: queue.Queue[dict] = queue.Queue()

    def serve(peer: RawPeer) -> None:
        peer.authenticate()
        peers.put(peer)
        while True:
            request = peer.receive()
            if request["type"] == "ping":
                peer.respond(request, "Pong")
            elif request["type"] == "launch_instance_from_registry":
                result = {"successful": True, "message": request["inferlet"]}
                peer.send(type="instance_launch_result", corr_id=request["corr_id"], **result)
            else:
                requests.put(request)

    with raw_server(serve) as uri:
        with PieClient(uri, timeout=10, **options) as client:
            client.authenticate("alice")
            yield Conversation(client, peers, requests)
