"""Bytes for the frame reader, cut at places that the fuzzer chooses.

- Whatever the bytes are, the reader raises nothing; a fault in the bytes is in ``error``.
- The places of the cuts change neither the messages nor the error.
- The memory is bounded by the largest allowed message, whatever length a frame claims.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzzing.grammar import frame, frames
from fuzzing.harness import Source, feed
from pie_sync._transport.frames import (
    BINARY,
    BUFFER_SIZE,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    READ_SIZE,
    TEXT,
    FrameError,
    FrameReader,
    encode_close,
    parse_close,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = (0, 1, 125, 1000, 70_000, 1 << 20)

#: The sizes of the pieces in which a stream arrives, besides those that the fuzzer chooses.
PIECES = (1, 2, 3, 7, 100, READ_SIZE)


def check(data: bytes) -> None:
    source = Source(data)
    limit = source.pick(LIMITS)
    size = source.pick((*PIECES, source.number(2) + 1))
    stream = source.rest() if source.number() % 2 else b"".join(frames(source))
    # A large stream is not cut into single bytes: a hundred pieces are enough.
    size = max(size, len(stream) // 100)

    whole, cut = FrameReader(limit), FrameReader(limit)
    messages = feed(whole, stream)
    assert feed(cut, stream, size) == messages
    assert repr(cut.error) == repr(whole.error)
    for reader in (whole, cut):
        assert reader.error is None or type(reader.error) is FrameError
        assert reader.error is None or reader.error.code in (1002, 1007, 1009)
        # The head of a frame takes up to ten bytes.
        assert len(reader._buffer) <= max(BUFFER_SIZE, limit + 10, READ_SIZE + 10)
        assert len(reader._fragments or b"") <= limit
    for opcode, payload in messages:
        check_message(opcode, payload, limit)


def check_message(opcode: int, payload: bytes | str, limit: int) -> None:
    if opcode == TEXT:
        assert isinstance(payload, str)
        assert len(payload.encode()) <= limit
        return
    assert isinstance(payload, bytes)
    assert opcode in (BINARY, CLOSE, PING, PONG)
    assert len(payload) <= (limit if opcode == BINARY else 125)
    if opcode == CLOSE:
        code, reason = parse_close(payload)
        # The code and the reason can be encoded again, except for "no code" (1005), which is never sent.
        assert code == 1005 or encode_close(code, reason) == payload


def seeds() -> Iterator[bytes]:
    streams = [
        frame(BINARY, b"x")
        + frame(TEXT, "\N{GREEK SMALL LETTER PI}".encode())
        + frame(CLOSE, encode_close(1000, "bye")),
        frame(BINARY, b"ab", fin=False) + frame(PING, b"?") + frame(CONTINUATION, b"cd") + frame(PONG, b"!"),
        frame(BINARY, bytes(130)) + frame(BINARY, bytes(900)),
        b"\x82\x7f" + (2).to_bytes(8, "big") + b"ab",
        b"\x82\x7f" + b"\xff" * 8,
        frame(TEXT, b"\xff") + frame(CLOSE),
    ]
    for stream in streams:
        for limit in (3, 5):
            for piece in (0, 3, 5):
                yield bytes((limit, 0, 0, piece, 1)) + stream
    # The same, made by decisions: see grammar.frames.
    yield bytes((5, 0, 0, 4, 0)) + bytes((3, 130, 3)) + bytes((3, 130, 4)) + bytes((0, 130, 1)) + b"x"
