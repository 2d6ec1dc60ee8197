"""A scripted server of the process protocol as 0.3 and 0.4 speak it, and as inconvenient as they are.

The close frame is answered only if something else is written after it came; otherwise the server keeps the socket,
for ever (seen on 0.3.0 and 0.4.0).
"""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Callable

import msgpack
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from tests.faults.raw_server import RawPeer, binary_frame, raw_server
from tests.scripted import AUTHENTICATED

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Makes the messages that follow a request: (ok, result) is an answer, a dict any message, None silence.
Answer = Callable[[dict[str, Any]], Any]


class OldProcessServer:
    """What the server has seen.

    Attributes:
        uri: where it listens.
        requests: all messages, in order.
        leaked: how many sockets it keeps because their close frames were not answered.
        closed: how many closing handshakes were completed.
    """

    def __init__(self, answer: Answer) -> None:
        self.uri = ""
        self.requests: list[dict[str, Any]] = []
        self.leaked = 0
        self.closed = 0
        self._answer = answer
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def cut(self) -> None:
        """Break all connections without a word."""
        with self._lock:
            for sock in self._sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            self._sockets.clear()

    def serve(self, peer: RawPeer) -> None:
        """Serve one connection."""
        sock, protocol = peer.socket, ServerProtocol(max_size=None)
        is_authenticated = False
        with self._lock:
            self._sockets.append(sock)
        while True:
            data = sock.recv(1 << 20)
            if not data:
                sock.close()
                return
            protocol.receive_data(data)
            written = b""
            for event in protocol.events_received():
                if not hasattr(event, "opcode"):
                    protocol.send_response(protocol.accept(event))
                    sock.sendall(b"".join(protocol.data_to_send()))
                elif event.opcode is Opcode.BINARY:
                    message = msgpack.unpackb(event.data)
                    with self._lock:
                        self.requests.append(message)
                    is_authenticated |= message["type"] == "auth_identify"
                    written += self._answers(message, is_authenticated)
            control = b"".join(protocol.data_to_send())
            if protocol.close_expected():
                with self._lock:
                    self.closed += bool(written)
                    self.leaked += not written
                if not written:
                    peer.stopped.wait(60)
                    return
                sock.sendall(written + control)
                sock.close()
                return
            sock.sendall(written + control)

    def _answers(self, message: dict[str, Any], is_authenticated: bool) -> bytes:
        kind = message["type"]
        if kind == "auth_identify":
            said: Any = (True, AUTHENTICATED)
        elif kind == "auth_prove":
            said = (False, "Already authenticated" if is_authenticated else "No pending authentication")
        elif not is_authenticated:
            return b""  # ignored, without a hang-up
        elif kind == "ping":
            said = (True, "Pong")
        elif kind == "identification":
            return b""  # the other generation's
        else:
            said = self._answer(message)
        frames = b""
        for part in said if isinstance(said, list) else [said]:
            if isinstance(part, tuple):
                ok, result = part
                part = {"type": "response", "corr_id": message["corr_id"], "ok": ok, "result": result}
            if part is not None:
                frames += binary_frame(msgpack.packb(part))
        return frames


def nothing(message: dict[str, Any]) -> Any:
    """Answer as a server without programs."""
    return {
        "list_processes": (True, json.dumps([])),
        "check_program": (True, "false"),
        "attach_process": (False, "Process not found"),
        "terminate_process": (False, "Process not found"),
    }.get(message["type"])


@contextmanager
def old_process_server(answer: Answer = nothing) -> Iterator[OldProcessServer]:
    """Serve every connection; see :data:`Answer`."""
    server = OldProcessServer(answer)
    with raw_server(server.serve) as uri:
        server.uri = uri
        yield server
