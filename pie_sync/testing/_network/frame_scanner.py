"""Reads the headers of the frames of a client, to find those that a server of an old generation does not take."""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ["FrameScanner", "Stop", "close_frame"]

MAX_MESSAGE_SIZE = 64 * 1024 * 1024

_END_OF_HEAD = b"\r\n\r\n"
_CONTINUATION, _CLOSE = 0, 8
_FIRST_CONTROL = 8
_LENGTH_SIZE = {126: 2, 127: 8}
_MASK_SIZE = 4


class Stop(enum.Enum):
    """Why a scan stopped."""

    CLOSE_FRAME = enum.auto()
    TOO_LARGE = enum.auto()


class _Header(NamedTuple):
    opcode: int
    length: int


class FrameScanner:
    """Follows what a client sends: the head of the upgrade request, and then frames.

    Args:
        max_frame_size: bytes of payload that one frame may have. A message may have 64 MiB.
        stop_at_close: whether to stop at a close frame.
    """

    def __init__(self, max_frame_size: int, *, stop_at_close: bool) -> None:
        self._max_frame_size = max_frame_size
        self._stop_at_close = stop_at_close
        self._head: bytes | None = b""  # the end of what came of the request's head; None after it
        self._header = b""  # what came of a frame's header
        self._payload_left = 0
        self._message_size = 0

    def scan(self, data: bytes) -> tuple[int, Stop | None]:
        """Follow some more bytes.

        Returns:
            How many bytes come before the frame at which the scan stopped, and why it stopped. All bytes and None
            if it did not. Don't scan any further after a stop.
        """
        position = self._skip_head(data)
        while True:
            step = min(self._payload_left, len(data) - position)
            position += step
            self._payload_left -= step
            if position == len(data):
                return position, None
            begin, known = position, len(self._header)
            header = self._header + data[position : position + 14]
            frame = _parse(header)
            if frame is None:
                self._header = header
                return len(data), None
            self._header = b""
            if frame.opcode == _CLOSE and self._stop_at_close:
                return begin, Stop.CLOSE_FRAME
            if self._is_too_large(frame):
                return begin, Stop.TOO_LARGE
            position += _header_size(header) - known
            self._payload_left = frame.length

    def _skip_head(self, data: bytes) -> int:
        """Return where in ``data`` the frames begin."""
        if self._head is None:
            return 0
        seen = self._head + data
        end = seen.find(_END_OF_HEAD)
        if end < 0:
            self._head = seen[1 - len(_END_OF_HEAD) :]
            return len(data)
        begin = end + len(_END_OF_HEAD) - len(self._head)
        self._head = None
        return begin

    def _is_too_large(self, frame: _Header) -> bool:
        if frame.opcode >= _FIRST_CONTROL:
            return False
        self._message_size = frame.length + (self._message_size if frame.opcode == _CONTINUATION else 0)
        return frame.length > self._max_frame_size or self._message_size > MAX_MESSAGE_SIZE


def close_frame(client_frame: bytes) -> bytes:
    """Return the close frame with which a server answers that of a client: the same status, or none."""
    if _parse(client_frame) is None:
        return b"\x88\0"
    begin = _header_size(client_frame)
    masked = client_frame[begin : begin + 2]
    if len(masked) < 2:
        return b"\x88\0"
    mask = client_frame[begin - _MASK_SIZE : begin]
    return b"\x88\2" + bytes(byte ^ key for byte, key in zip(masked, mask))


def _header_size(header: bytes) -> int:
    """Return how long the header is that begins with these two bytes or more."""
    return 2 + _LENGTH_SIZE.get(header[1] & 0x7F, 0) + (_MASK_SIZE if header[1] & 0x80 else 0)


def _parse(header: bytes) -> _Header | None:
    """Return the header with which the bytes begin, None if it is not complete."""
    if len(header) < 2 or len(header) < _header_size(header):
        return None
    size = _LENGTH_SIZE.get(header[1] & 0x7F, 0)
    length = int.from_bytes(header[2 : 2 + size], "big") if size else header[1] & 0x7F
    return _Header(header[0] & 0x0F, length)
