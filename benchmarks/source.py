"""The load source: a server of the instance protocol that takes little processor time, in a process of its own.

The source encodes everything that it sends before the clock starts, and drops uploads except for the head of each
chunk. So the benchmarks measure the client. Reading the same bytes from a bare socket (``clients/bare.py``) shows
how fast the source can be.

Programs, launched by name:
    ``events`` with the arguments instances, count, size, burst: once that many instances are launched on the
    connection, the first message to any of them lets all of them send ``count`` messages of ``size`` bytes, in
    turn, ``burst`` each, and complete.
    ``events-then-ends``: the same, but the instances complete only at the second message to any of them.
    ``blob`` with the argument size: the same as ``events``, with one blob.
    ``ends-at-once`` with the argument text: completes with that text right behind the answer to its launch. All
    that one read brings of these is answered in one write.
    ``short``: completes at once, in a write of its own, on a socket without TCP_NODELAY: as servers up to Pie 0.2.

The source prints its port, and ends when its standard input is closed.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import sys
import threading
from functools import lru_cache
from typing import Any

from blake3 import blake3

from benchmarks.wire import CHUNK_SIZE, CLOSE, FIN_BINARY, PING, Inbox, fields, frame, framed

AUTHENTICATED = "Authenticated (Engine disabled authentication)"
ACCEPT_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3

LOOK_AT = 1024  # bytes of a message that are read: longer than any message that isn't a chunk
DIFFERENT_EVENTS = 1000
SEND_SIZE = 1024 * 1024


class Stream:
    """Everything that a launch makes the source send: a repeated block of frames, and the end of the instances."""

    def __init__(self, block: bytes, repeats: int, end: bytes) -> None:
        self.end = end
        together = min(repeats, -(-SEND_SIZE // len(block)))
        self._block, self._repeats = block * together, repeats // together
        self._rest = block * (repeats % together)
        self.size = len(block) * repeats + len(end)

    def send(self, sock: socket.socket, end: bytes) -> None:
        """Send everything, followed by ``end``."""
        for _ in range(self._repeats):
            sock.sendall(self._block)
        sock.sendall(self._rest + end)


def instance_id(index: int) -> str:
    return f"00000000-0000-4000-8000-{index:012d}"


# What ended() puts together: the two frames around the correlation id, the last digits of the id and the text.
_ANSWER = {"type": "instance_launch_result", "corr_id": 2**32 - 1, "successful": True, "message": instance_id(0)}
ANSWER_HEAD, ANSWER_TAIL = frame(_ANSWER)[:-12].split(b"\xff\xff\xff\xff")
_END = {"type": "instance_event", "instance_id": instance_id(0), "event": 1, "message": ""}
END_HEAD, END_TAIL = frame(_END)[2:-1].split(b"0" * 12)


@lru_cache(maxsize=8)
def events(instances: int, count: int, size: int, burst: int) -> Stream:
    # The block has whole turns, its size divides the whole, and it is no larger than necessary.
    assert count % burst == 0
    all_turns = count // burst
    wanted = max(1, DIFFERENT_EVENTS // (instances * burst))
    turns = max(turns for turns in range(1, wanted + 1) if all_turns % turns == 0)
    block = bytearray()
    for turn in range(turns):
        for index in range(instances):
            for number in range(burst):
                block += _event(index, 0, f"{turn * burst + number:08d} ".ljust(size, "x"))
    return Stream(
        bytes(block), all_turns // turns, b"".join(_event(index, 1, "done") for index in range(instances))
    )


def _event(index: int, kind: int, text: str) -> bytes:
    return frame({"type": "instance_event", "instance_id": instance_id(index), "event": kind, "message": text})


def ended(corr_id: int, index: int, text: str) -> bytes:
    """Return the answer to a launch and the end of its instance: of pieces, since packing a map takes longer."""
    number = b"%012d" % index
    end = text.encode()
    return b"".join(
        (
            ANSWER_HEAD,
            corr_id.to_bytes(4, "big"),
            ANSWER_TAIL,
            number,
            b"\x82",
            bytes([len(END_HEAD) + 12 + len(END_TAIL) + 1 + len(end)]),
            END_HEAD,
            number,
            END_TAIL,
            bytes([0xA0 | len(end)]),
            end,
        )
    )


@lru_cache(maxsize=1)
def blob(size: int) -> Stream:
    data = b"".join(hashlib.sha256(b"%d" % index).digest() for index in range(CHUNK_SIZE // 32))
    data = (data * (size // len(data) + 1))[:size]
    blob_hash = blake3(data).hexdigest()
    total = -(-size // CHUNK_SIZE)
    frames = bytearray()
    for index in range(total):
        chunk = data[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE]
        frames += frame(
            {
                "type": "download_blob",
                "corr_id": 0,
                "instance_id": instance_id(0),
                "blob_hash": blob_hash,
                "chunk_index": index,
                "total_chunks": total,
                "chunk_data": chunk,
            }
        )
    return Stream(bytes(frames), 1, _event(0, 1, "done"))


class Connection:
    """The connection of one client, served by one thread until the client closes it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._inbox = Inbox(sock)
        self._launched = 0
        self._stream: Stream | None = None
        self._ends_later = False
        self._is_under_way = False
        self._answers: list[bytes] = []

    def serve(self) -> None:
        with self._socket:
            try:
                self._shake_hands()
                while self._serve_frame():
                    pass
            except (EOFError, OSError):
                pass  # the client is gone

    def _shake_hands(self) -> None:
        key = b""
        for line in self._inbox.take_http_head():
            name, _, value = line.partition(b":")
            if name.lower() == b"sec-websocket-key":
                key = value.strip()
        accept = base64.b64encode(hashlib.sha1(key + ACCEPT_KEY).digest())
        self._socket.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    def _serve_frame(self) -> bool:
        if self._answers and not self._inbox.has_frame():
            self._socket.sendall(b"".join(self._answers))
            self._answers.clear()
        first, head, _ = self._inbox.take_frame(LOOK_AT)
        if first == FIN_BINARY:
            self._answer(fields(head))
        elif first == PING:
            self._socket.sendall(framed(head, 0x8A))
        elif first == CLOSE:
            self._socket.sendall(framed(head, CLOSE))
            return False
        return True

    def _answer(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "ping":
            self._respond(message, "Pong")
        elif kind == "upload_program":
            if message["chunk_index"] == message["total_chunks"] - 1:
                self._respond(message, message["program_hash"])
        elif kind == "signal_instance":
            self._go()
        elif kind == "launch_instance_from_registry":
            self._launch(message)
        elif kind == "identification":
            self._respond(message, AUTHENTICATED)
        elif kind == "query":  # from the bare client: how many bytes follow
            self._respond(message, str(self._stream.size if self._stream else 0))

    def _respond(self, message: dict[str, Any], result: str) -> None:
        response = {"type": "response", "corr_id": message["corr_id"], "successful": True, "result": result}
        self._socket.sendall(frame(response))

    def _go(self) -> None:
        stream = self._stream
        assert stream is not None
        if self._is_under_way:
            self._socket.sendall(stream.end)
        else:
            stream.send(self._socket, b"" if self._ends_later else stream.end)
        self._is_under_way = True

    def _launch(self, message: dict[str, Any]) -> None:
        if message["inferlet"] == "ends-at-once":
            self._launched += 1
            self._answers.append(ended(message["corr_id"], self._launched, message["arguments"][0]))
            return
        if message["inferlet"] == "short":
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        arguments = [int(argument) for argument in message["arguments"]]
        launched = instance_id(self._launched)
        self._launched += 1
        self._ends_later = message["inferlet"] == "events-then-ends"
        if message["inferlet"] == "blob":
            self._stream = blob(*arguments)
        elif arguments and self._launched == arguments[0]:
            self._stream = events(*arguments)
        answer = {"corr_id": message["corr_id"], "successful": True, "message": launched}
        self._socket.sendall(frame({"type": "instance_launch_result", **answer}))
        if message["inferlet"] == "short":
            self._socket.sendall(_event(self._launched - 1, 1, "done"))


def accept(listener: socket.socket) -> None:
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=Connection(sock).serve, daemon=True).start()


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
