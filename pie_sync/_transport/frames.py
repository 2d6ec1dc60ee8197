"""WebSocket frames (RFC 6455 section 5): bytes <-> messages, without any I/O.

This is the hot path of the library. :class:`FrameReader` owns the incoming bytes and parses all complete frames of
one large read. :func:`encode_frame` builds an outgoing frame in one buffer and masks it in place (``mask.py``).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Union

from .mask import mask_in_place, masked, new_key

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BINARY",
    "CLOSE",
    "PING",
    "PONG",
    "TEXT",
    "FrameError",
    "FrameReader",
    "Message",
    "encode_close",
    "encode_frame",
    "encode_frames",
    "encode_message",
    "opcode_and_payload",
    "parse_close",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

FIN = 0x80
FIN_BINARY = FIN | BINARY
MASKED = 0x80

#: What one ``recv`` may bring: 256 KiB are about 1 300 small events, parsed and unpacked in 1.5 ms. Consumers are
#: woken once for each read: with 32 of them half of this is 15 % slower, and twice as much is hardly quicker.
READ_SIZE = 256 * 1024

#: The resting size of the buffer: one chunk message (256 KiB and its header) and one read.
BUFFER_SIZE = 576 * 1024

#: The same two sizes until a read fills the smaller one. Most connections of a program that makes many never read
#: so much, and touching memory for the first time costs 2 us a page: with the large buffer connecting took 0.3 ms
#: more.
FIRST_READ_SIZE = 8 * 1024
FIRST_BUFFER_SIZE = 16 * 1024

#: Up to this many bytes a message is copied out; a larger one is handed out as a view. Making a view is no cheaper
#: than such a copy, and the garbage collector has to visit each view, often so with ten thousand instances around.
SMALL = 1024

#: How many bytes of a long message go into one frame. Some servers take no frame above 16 MiB, but any number of
#: fragments of this size (measured). In between there is room for control frames.
FRAGMENT_SIZE = 1024 * 1024

#: Bytes or a view of them. ``Any`` because Python 3.9 has no name for the buffer protocol.
Buffer = Any

#: The payload of a small binary message, which nearly all are; or the opcode of any other, and its payload.
Message = Union[bytes, tuple[int, Buffer]]


class FrameError(Exception):
    """The server violated RFC 6455, or sent a message that is too large.

    Attributes:
        code: the close code for the server (RFC 6455 section 7.4.1).
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class FrameReader:
    """Turns the bytes that a server sends into messages.

    Use: ``n = sock.recv_into(reader.buffer())`` and then ``for message in reader.received(n)``.

    One bytearray holds the received bytes, between ``_start`` and ``_end``. Large payloads are handed out as views
    into it, so that msgpack reads them without a copy. A view is valid until the next call of :meth:`buffer`.
    The beginning of an incomplete frame is moved to the front only if its rest does not fit behind it. That
    happens at most once for each frame, since from then on the whole frame fits.

    Attributes:
        error: why reading stopped, or None. Messages before the violation are handed out first.
        has_control: whether the messages that were handed out last contain control frames.
    """

    def __init__(self, max_message_size: int) -> None:
        self.error: FrameError | None = None
        self.has_control = False
        self._max_message_size = max_message_size
        self._small = min(SMALL, max_message_size)
        self._read_size = FIRST_READ_SIZE
        self._resting_size = FIRST_BUFFER_SIZE
        self._allocate(self._resting_size)
        self._start = 0
        self._end = 0
        self._needed = 0  # how many bytes the incomplete frame at _start takes in all, once that is known
        self._fragments: bytearray | None = None
        self._fragments_opcode = 0

    def _allocate(self, size: int) -> None:
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)

    def release(self) -> None:
        """Give the memory back: nothing is received any more. The payloads handed out last stay valid."""
        self._allocate(0)
        self._start = self._end = self._needed = 0
        self._fragments = None

    def buffer(self) -> memoryview:
        """Return the memory to receive into. Invalidates the payloads handed out before."""
        used = self._end - self._start
        if used == 0:
            self._start = self._end = 0
            if len(self._buffer) == self._resting_size:  # nearly always: whoever was woken waits for this thread
                return self._view[: self._read_size]
        # As much as the incomplete frame takes: a buffer that grows while a large frame comes in small pieces
        # would be copied with each piece.
        wanted = self._needed or used + self._read_size
        size = max(self._resting_size, wanted)
        if self._start + wanted > len(self._buffer) or len(self._buffer) > size:
            source = self._view[self._start : self._end]
            if len(self._buffer) != size:
                self._allocate(size)
            self._view[:used] = source
            self._start, self._end = 0, used
        return self._view[self._end : self._end + max(self._read_size, self._needed - used)]

    def received(self, count: int) -> list[Message]:
        """Parse ``count`` bytes that were written into :meth:`buffer`; return the messages that they complete.

        Returns:
            For a small binary message its payload, as bytes. For all others (opcode, payload) pairs: ``BINARY``,
            ``PING``, ``PONG`` and ``CLOSE`` with a view, or with a bytearray if the message was fragmented;
            ``TEXT`` with a str. An empty list once :attr:`error` is set.
        """
        messages: list[Message] = []
        self.has_control = False
        if self.error is not None:
            return messages
        if count >= self._read_size:
            self._read_size, self._resting_size = READ_SIZE, BUFFER_SIZE
        buffer, view = self._buffer, self._view
        small, limit = self._small, self._max_message_size
        whole = FIN_BINARY if self._fragments is None else -1
        position = self._start
        self._end = end = self._end + count
        self._needed = 0
        # This loop parses the frames of an ordinary stream: unfragmented binary messages. Everything else goes
        # through _unusual(). A frame of 200 bytes takes 0.35 us. The plain way, with a system call each for two
        # bytes, the length and the rest, takes 12 us.
        try:
            while end - position >= 2:
                first = buffer[position]
                length = buffer[position + 1]
                payload = position + 2
                if length >= 126:
                    if length >= MASKED:
                        raise FrameError(1002, "the server sent a masked frame")
                    payload += 2 if length == 126 else 8
                    if payload > end:
                        break
                    if length == 126:  # the form of most events; int.from_bytes would take 0.2 us more
                        length = buffer[position + 2] << 8 | buffer[position + 3]
                    else:
                        length = int.from_bytes(buffer[position + 2 : payload], "big")
                stop = payload + length
                if stop > end:
                    self._check_start(first, length)
                    self._needed = stop - position
                    break
                if first == whole and length <= small:
                    messages.append(bytes(view[payload:stop]))
                elif first == whole and length <= limit:
                    messages.append((BINARY, view[payload:stop]))
                else:
                    self._unusual(first, view[payload:stop], messages)
                    whole = FIN_BINARY if self._fragments is None else -1
                position = stop
        except FrameError as error:
            self.error = error
        self._start = position
        return messages

    def _check_start(self, first: int, length: int) -> None:
        """Raise FrameError if the head of a frame shows a violation, rather than wait for the frame's payload."""
        opcode = first & 0x0F
        if first & 0x70:
            raise FrameError(1002, "the server set reserved bits")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise FrameError(1002, f"the server sent a frame with opcode {opcode:#x}")
            if length > 125 or not first & FIN:
                raise FrameError(1002, "the server sent a control frame that is too long or fragmented")
            return
        if opcode > BINARY:
            raise FrameError(1002, f"the server sent a frame with opcode {opcode:#x}")
        if opcode == CONTINUATION and self._fragments is None:
            raise FrameError(1002, "the server continued a message that it had not begun")
        if opcode != CONTINUATION and self._fragments is not None:
            raise FrameError(1002, "the server began a message inside another one")
        total, limit = len(self._fragments or b"") + length, self._max_message_size
        if total > limit:
            raise FrameError(
                1009, f"the server sent a message of {total} bytes, more than max_message_size={limit}"
            )

    def _unusual(self, first: int, payload: memoryview, messages: list[Message]) -> None:
        """Handle a frame that isn't a whole binary message: a control frame, a fragment, or text."""
        self._check_start(first, len(payload))
        opcode = first & 0x0F
        if opcode >= CLOSE:
            self.has_control = True
            if opcode == CLOSE:
                parse_close(payload)
            messages.append((opcode, payload))
            return
        whole: Buffer = payload
        if opcode != CONTINUATION:
            if not first & FIN:
                self._fragments = bytearray(payload)
                self._fragments_opcode = opcode
                return
        else:
            assert self._fragments is not None
            self._fragments += payload
            if not first & FIN:
                return
            opcode, whole, self._fragments = self._fragments_opcode, self._fragments, None
        messages.append((opcode, _decode_text(whole) if opcode == TEXT else whole))


def opcode_and_payload(message: Message) -> tuple[int, Buffer]:
    """Return a message's opcode and payload, in whichever form it was handed out."""
    return (BINARY, message) if isinstance(message, bytes) else message


def _decode_text(payload: Buffer) -> str:
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError as error:
        raise FrameError(1007, "the server sent text that is not UTF-8") from error


def parse_close(payload: Buffer) -> tuple[int, str]:
    """Return code and reason of a close frame; 1005, "no code", for an empty one (RFC 6455 section 7.1.5)."""
    if not payload:
        return 1005, ""
    if len(payload) == 1:
        raise FrameError(1002, "the server sent a close frame of one byte")
    (code,) = struct.unpack_from("!H", payload)
    # Section 7.4: 1004-1006 and 1015 never travel; 3000-4999 are for libraries and applications.
    if not (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) and not 3000 <= code <= 4999:
        raise FrameError(1002, f"the server closed with code {code}, which must not be sent")
    return code, _decode_text(payload[2:])


def encode_close(code: int, reason: str = "") -> bytes:
    """Return the payload of a close frame. A reason of more than 123 bytes is cut between two characters."""
    return struct.pack("!H", code) + reason.encode()[:123].decode(errors="ignore").encode()


#: The first two bytes of a masked frame of less than 126 bytes, by opcode and length: nearly all frames are such.
_SHORT_HEADS = {
    opcode: [bytes((FIN | opcode, MASKED | length)) for length in range(126)]
    for opcode in (CONTINUATION, BINARY, CLOSE, PING, PONG)
}


#: What masks the first six bytes of a short frame: nothing.
_NO_MASK = bytes(6)


def encode_frames(payloads: Sequence[bytes]) -> bytes:
    """Build one masked frame for each binary message, and concatenate them. Small ones are masked together."""
    pieces: list[bytes | bytearray] = []
    heads = _SHORT_HEADS[BINARY]
    plain: list[bytes] = []
    masks: list[bytes] = []
    for payload in payloads:
        length = len(payload)
        if length >= 126:
            _mask_all(plain, masks, pieces)
            pieces.append(encode_frame(BINARY, payload))
            continue
        key = new_key()
        plain += heads[length], key, payload
        masks += _NO_MASK, (key * 32)[:length]
        if len(masks) > 64:
            _mask_all(plain, masks, pieces)
    _mask_all(plain, masks, pieces)
    return b"".join(pieces)


def _mask_all(plain: list[bytes], masks: list[bytes], pieces: list[bytes | bytearray]) -> None:
    """Append what XOR makes of two lists of bytes, and empty them. One big integer takes linear time."""
    if plain:
        text = b"".join(plain)
        mask = int.from_bytes(b"".join(masks), "little")
        pieces.append((int.from_bytes(text, "little") ^ mask).to_bytes(len(text), "little"))
        plain.clear()
        masks.clear()


def encode_frame(opcode: int, payload: Buffer, *more: Buffer, fin: int = FIN) -> bytes | bytearray:
    """Build one masked frame.

    Args:
        opcode: ``BINARY``, ``CONTINUATION``, ``CLOSE``, ``PING`` or ``PONG``.
        payload: bytes-like, of bytes. It is copied once, into the frame, and masked there.
        more: further parts of the payload, in order.
        fin: ``FIN``, or 0 if the message goes on in another frame. (For frames of 126 bytes or more.)
    """
    length = len(payload)
    if not more and length < 126:
        key = new_key()
        return _SHORT_HEADS[opcode][length] + key + masked(payload, key)
    length += sum(map(len, more))
    first = fin | opcode
    if length < 126:
        frame = bytearray(struct.pack("!BB", first, MASKED | length))
    elif length < 65536:
        frame = bytearray(struct.pack("!BBH", first, MASKED | 126, length))
    else:
        frame = bytearray(struct.pack("!BBQ", first, MASKED | 127, length))
    key = new_key()
    frame += key
    start = len(frame)
    frame += payload
    for part in more:
        frame += part
    mask_in_place(frame, start, key)
    return frame


def encode_message(payload: Buffer) -> list[Buffer]:
    """Build the frames of a binary message: one, or fragments of ``FRAGMENT_SIZE``."""
    view, size = memoryview(payload), len(payload)
    starts = range(0, size, FRAGMENT_SIZE) if size else range(1)
    return [
        encode_frame(
            CONTINUATION if start else BINARY,
            view[start : start + FRAGMENT_SIZE],
            fin=0 if start + FRAGMENT_SIZE < size else FIN,
        )
        for start in starts
    ]
