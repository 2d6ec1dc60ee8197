"""Frames without a socket. The comparison with two other implementations is in test_frames_against_others.py."""

import struct

import pytest

from pie_sync._frames import BINARY, CLOSE, PING, PONG, TEXT, FrameReader, encode_close, encode_frame, parse_close

FIN = 0x80


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = False) -> bytes:
    """One frame as a server sends it."""
    first = (FIN if fin else 0) | rsv << 4 | opcode
    mask = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes((first, mask | len(payload)))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, mask | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, mask | 127, len(payload))
    return head + (b"\0\0\0\0" if masked else b"") + payload


def read(stream: bytes, *, piece: int = 1 << 20, max_message_size: int = 1 << 20):
    """Feed a stream in pieces; return all messages and the error's text, if any."""
    reader = FrameReader(max_message_size)
    messages = []
    position = 0
    while position < len(stream):
        buffer = reader.buffer()
        count = min(piece, len(buffer), len(stream) - position)
        buffer[:count] = stream[position : position + count]
        position += count
        for opcode, payload in reader.received(count):
            messages.append((opcode, payload if isinstance(payload, str) else bytes(payload)))
    return messages, reader.error and str(reader.error)


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 100, 1 << 20])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70_000])
def test_every_length_in_every_piece(size, piece):
    payload = bytes(range(256)) * (size // 256 + 1)
    payload = payload[:size]
    stream = frame(BINARY, payload) + frame(BINARY, b"next")
    assert read(stream, piece=piece) == ([(BINARY, payload), (BINARY, b"next")], None)


def test_fragments_with_control_frames_between():
    stream = (
        frame(BINARY, b"one", fin=False)
        + frame(PING, b"ping")
        + frame(0, b"two", fin=False)
        + frame(PONG)
        + frame(0, b"three")
        + frame(BINARY, b"four")
    )
    expected = [(PING, b"ping"), (PONG, b""), (BINARY, b"onetwothree"), (BINARY, b"four")]
    assert read(stream) == (expected, None)
    assert read(stream, piece=1) == (expected, None)


def test_text():
    assert read(frame(TEXT, "é".encode()[:1], fin=False) + frame(0, "é".encode()[1:])) == ([(TEXT, "é")], None)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (frame(BINARY, b"x", masked=True), "masked"),
        (frame(BINARY, b"x", rsv=4), "reserved"),
        (frame(BINARY, b"x", rsv=1), "reserved"),
        (frame(3, b"x"), "opcode 0x3"),
        (frame(7), "opcode 0x7"),
        (frame(0xB), "opcode 0xb"),
        (frame(0, b"x"), "not begun"),
        (frame(BINARY, b"x", fin=False) + frame(BINARY, b"y"), "inside another"),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), "inside another"),
        (frame(PING, b"x" * 126), "too long"),
        (frame(PING, b"x", fin=False), "fragmented"),
        (frame(CLOSE, b"x"), "one byte"),
        (frame(CLOSE, struct.pack("!H", 1005)), "1005"),
        (frame(CLOSE, struct.pack("!H", 999)), "999"),
        (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), "UTF-8"),
        (frame(TEXT, b"\xff"), "UTF-8"),
        (frame(BINARY, b"x" * 2001), "max_message_size"),
        (frame(BINARY, b"x" * 1500, fin=False) + frame(0, b"x" * 1500), "max_message_size"),
    ],
)
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_refusals_come_after_the_messages_before_them(stream, reason, piece):
    messages, error = read(
        frame(BINARY, b"good") + stream + frame(BINARY, b"later"), piece=piece, max_message_size=2000
    )
    assert messages == [(BINARY, b"good")]
    assert reason in error


def test_a_frame_that_is_too_big_is_refused_before_it_has_arrived():
    messages, error = read(struct.pack("!BBQ", FIN | BINARY, 127, 1 << 62))
    assert messages == []
    assert "max_message_size" in error


def test_the_buffer_grows_for_a_big_frame_and_shrinks_again():
    reader = FrameReader(8 << 20)
    resting = len(reader._buffer)
    for payload in (b"x" * (4 << 20), b"y"):
        stream = memoryview(frame(BINARY, payload))
        messages = []
        while stream:
            buffer = reader.buffer()
            count = min(len(buffer), len(stream))
            buffer[:count], stream = stream[:count], stream[count:]
            messages += reader.received(count)
        assert [bytes(data) for _, data in messages] == [payload]
    del messages
    reader.buffer()
    assert len(reader._buffer) == resting


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_encoded_frames_are_masked_with_a_new_key_each(size):
    from tests.test_mask import plain_mask

    payload = b"ab" * (size // 2) + b"c" * (size % 2)
    head_size = 2 if size < 126 else 4 if size < 65536 else 10
    frames = [encode_frame(BINARY, payload[: size // 3], payload[size // 3 :]) for _ in range(2)]
    keys = []
    for encoded in frames:
        head, key, masked = encoded[:head_size], encoded[head_size : head_size + 4], encoded[head_size + 4 :]
        plain_head = bytearray(frame(BINARY, payload)[:head_size])
        plain_head[1] |= 0x80
        assert head == plain_head
        assert plain_mask(bytes(masked), bytes(key)) == payload
        keys.append(bytes(key))
    assert keys[0] != keys[1]


def test_close_payloads():
    assert parse_close(b"") == (1005, "")
    assert parse_close(encode_close(1000, "bye")) == (1000, "bye")
    assert parse_close(encode_close(4999)) == (4999, "")
    assert len(encode_close(1000, "é" * 200)) <= 125
    assert parse_close(encode_close(1000, "é" * 200)) == (1000, "é" * 61)
