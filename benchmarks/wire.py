"""WebSocket frames for the load source: encodes frames in advance, and reads only the head of incoming ones."""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgpack

FIN_BINARY = 0x82
CLOSE, PING = 0x88, 0x89
CHUNK_SIZE = 256 * 1024  # of programs and blobs (protocol, common rules)
READ_SIZE = 1024 * 1024


def frame(message: dict[str, Any]) -> bytes:
    """Return the frame of one message, as a server sends it."""
    return framed(msgpack.packb(message))


def framed(payload: bytes, first: int = FIN_BINARY, *, masked: bool = False) -> bytes:
    """Return one frame. The mask that clients must have is all zeros, so the payload stays the same."""
    length, bit = len(payload), 0x80 if masked else 0
    if length < 126:
        head = struct.pack("!BB", first, bit | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, bit | 127, length)
    return head + (bytes(4) if masked else b"") + payload


class Inbox:
    """The incoming bytes of a blocking socket, which the caller can take or skip."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._view = memoryview(bytearray(READ_SIZE))
        self._start = self._end = 0

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes, at most ``READ_SIZE``.

        Raises:
            EOFError: the connection ended before that.
        """
        while self._end - self._start < size:
            rest = bytes(self._view[self._start : self._end])
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
            self._end += self._receive(self._view[self._end :])
        taken = bytes(self._view[self._start : self._start + size])
        self._start += size
        return taken

    def skip(self, size: int) -> None:
        """Drop the next ``size`` bytes, however many, at the speed of the socket."""
        while self._end - self._start < size:
            size -= self._end - self._start
            self._start, self._end = 0, self._receive(self._view)
        self._start += size

    def has_frame(self) -> bool:
        """Whether the beginning of a frame has been read. Never blocks."""
        return self._end > self._start

    def take_http_head(self) -> list[bytes]:
        """Return the lines of a request or a response, up to the empty one."""
        head = b""
        while b"\r\n\r\n" not in head:
            self._end += self._receive(self._view[self._end :])
            head = bytes(self._view[: self._end])
        head = head[: head.index(b"\r\n\r\n")]
        self._start = len(head) + 4
        return head.split(b"\r\n")

    def _receive(self, view: memoryview) -> int:
        count = self._socket.recv_into(view)
        if count == 0:
            raise EOFError
        return count

    def take_frame(self, look_at: int) -> tuple[int, bytes, int]:
        """Return the next frame's first byte, up to ``look_at`` bytes of its unmasked payload, and its length."""
        first, length = self.take(2)
        masked, length = length & 0x80, length & 0x7F
        if length >= 126:
            length = int.from_bytes(self.take(2 if length == 126 else 8), "big")
        key = self.take(4) if masked else bytes(4)
        head = self.take(min(length, look_at))
        self.skip(length - len(head))
        size = len(head)
        mask = (key * (size // 4 + 1))[:size]
        plain = (int.from_bytes(head, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
        return first, plain, length


def fields(head: bytes) -> dict[str, Any]:
    """Return the fields of a message whose end may be missing: all fields before ``chunk_data``, if any."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(head) + 1)
    unpacker.feed(head)
    found: dict[str, Any] = {}
    for _ in range(unpacker.read_map_header()):
        name = unpacker.unpack()
        if name == "chunk_data":
            break
        found[name] = unpacker.unpack()
    return found
