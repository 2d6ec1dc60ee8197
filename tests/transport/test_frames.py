"""Frames without a socket. The comparison with two other implementations is in test_frames_against_others.py."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.protocol import State
from websockets.server import ServerProtocol

from pie_sync._transport import frames as _frames
from pie_sync._transport.frames import (
    BINARY,
    BUFFER_SIZE,
    CLOSE,
    CONTINUATION,
    FIRST_BUFFER_SIZE,
    FIRST_READ_SIZE,
    FRAGMENT_SIZE,
    PING,
    PONG,
    READ_SIZE,
    SMALL,
    TEXT,
    FrameReader,
    encode_close,
    encode_frame,
    encode_frames,
    encode_message,
    opcode_and_payload,
    parse_close,
)

FIN = 0x80


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = False,
    length_bits: int = 7,
) -> bytes:
    """One frame as a server sends it; its length takes at least ``length_bits``: 7, 16 or 64."""
    first = (FIN if fin else 0) | rsv << 4 | opcode
    mask = 0x80 if masked else 0
    if len(payload) < 126 and length_bits == 7:
        head = bytes((first, mask | len(payload)))
    elif len(payload) < 65536 and length_bits <= 16:
        head = struct.pack("!BBH", first, mask | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, mask | 127, len(payload))
    return head + (b"\0\0\0\0" if masked else b"") + payload


def feed(reader: FrameReader, data: bytes) -> list[tuple[int, object]]:
    """Give a reader bytes; return copies of the messages that they complete."""
    messages = []
    left = memoryview(data)
    while left:
        buffer = reader.buffer()
        assert len(buffer) > 0  # no room would look like the end of the stream
        count = min(len(buffer), len(left))
        buffer[:count], left = left[:count], left[count:]
        for opcode, payload in map(opcode_and_payload, reader.received(count)):
            messages.append((opcode, payload if isinstance(payload, str) else bytes(payload)))
    return messages


def read(stream: bytes, *, piece: int = 1 << 20, max_message_size: int = 1 << 20):
    """Feed a stream in pieces; return all messages and the error's text, if any."""
    reader = FrameReader(max_message_size)
    messages = []
    for position in range(0, len(stream), piece):
        messages += feed(reader, stream[position : position + piece])
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


@pytest.mark.parametrize("length_bits", [16, 64])
@pytest.mark.parametrize("opcode", [BINARY, PING])
def test_a_length_that_takes_more_bytes_than_it_must_is_read(opcode, length_bits):
    stream = frame(opcode, b"x" * 5, length_bits=length_bits)
    assert read(stream) == ([(opcode, b"x" * 5)], None)
    assert read(stream, piece=1) == ([(opcode, b"x" * 5)], None)


@pytest.mark.parametrize(
    ("before", "start", "code"),
    [
        (b"", struct.pack("!BBQ", FIN | BINARY, 127, 1001), 1009),
        (b"", struct.pack("!BBQ", FIN | BINARY, 127, 1 << 62), 1009),
        (b"", struct.pack("!BBQ", FIN | BINARY, 127, 1 << 63), 1009),
        (frame(BINARY, b"x" * 600, fin=False), struct.pack("!BBH", FIN, 126, 401), 1009),
        (b"", struct.pack("!BBQ", FIN | CLOSE, 127, 1 << 62), 1002),
        (b"", struct.pack("!BBH", FIN | PONG, 126, 126), 1002),
        (b"", bytes((FIN | 3, 5)), 1002),
        (b"", bytes((FIN | 0x40 | BINARY, 5)), 1002),
        (b"", bytes((FIN | BINARY, 0x80 | 5)), 1002),
        (b"", bytes((PING, 5)), 1002),
        (b"", bytes((FIN, 5)), 1002),
        (frame(BINARY, b"x", fin=False), bytes((FIN | TEXT, 5)), 1002),
    ],
)
def test_a_frame_whose_head_is_wrong_is_refused_before_it_has_arrived(before, start, code):
    reader = FrameReader(1000)
    assert feed(reader, before + start) == []
    assert reader.error is not None
    assert reader.error.code == code
    assert len(reader.buffer()) > 0  # there is always memory to receive into


def test_the_limit_holds_to_the_byte_and_is_no_limit_for_control_frames():
    messages = [(BINARY, b"x" * 100), (PING, b"p" * 125), (CLOSE, encode_close(1000, "r" * 123))]
    stream = b"".join(frame(opcode, payload) for opcode, payload in messages)
    assert read(stream, max_message_size=100) == (messages, None)
    fragments = frame(BINARY, b"x" * 60, fin=False) + frame(0, b"x" * 40)
    assert read(fragments, max_message_size=100) == ([(BINARY, b"x" * 100)], None)
    assert "101 bytes" in read(frame(BINARY, b"x" * 101), max_message_size=100)[1]


def test_nothing_is_read_after_an_error():
    reader = FrameReader(1000)
    assert feed(reader, frame(3) + frame(BINARY, b"later")) == []
    error = reader.error
    assert feed(reader, frame(BINARY, b"later")) == []
    assert reader.error is error


def test_large_payloads_are_views_that_stay_until_the_next_buffer():
    reader = FrameReader(5000)
    one, two = b"1" * SMALL, b"2" * (SMALL + 1)
    stream = frame(BINARY, one) + frame(BINARY, two) + frame(BINARY, b"three")[:3]
    reader.buffer()[: len(stream)] = stream
    small, (opcode, large) = reader.received(len(stream))
    assert (type(small), small) == (bytes, one)
    assert (opcode, type(large), bytes(large)) == (BINARY, memoryview, two)


# With the 7 bytes of the frame before it and its head of 10, a frame of BUFFER_SIZE - 17 bytes just fits.
@pytest.mark.parametrize(
    "size", [4 << 20, *(_frames.BUFFER_SIZE + more for more in (-18, -17, -16, -11, -10, -9, 0, 1))]
)
def test_a_big_frame_in_small_pieces_is_moved_once_at_the_most(size):
    reader = FrameReader(8 << 20)
    stream = memoryview(frame(BINARY, b"small") + frame(BINARY, b"x" * size))
    messages, buffers = [], []
    for position in range(0, len(stream), 1460):
        messages += feed(reader, stream[position : position + 1460])
        if not buffers or buffers[-1] is not reader._buffer:
            buffers.append(reader._buffer)
    assert messages == [(BINARY, b"small"), (BINARY, b"x" * size)]
    assert len(buffers) <= 2


@pytest.mark.parametrize("behind", [b"", frame(BINARY, b"next")[:3], frame(BINARY, b"n" * 1000)[:900]])
def test_the_buffer_shrinks_again_after_a_big_frame(behind):
    reader = FrameReader(8 << 20)
    big = frame(BINARY, b"x" * (4 << 20))
    assert feed(reader, big[:-1000]) == []
    assert len(reader._buffer) > BUFFER_SIZE
    assert len(feed(reader, big[-1000:] + behind)) == 1
    reader.buffer()
    assert len(reader._buffer) == BUFFER_SIZE


def test_the_buffer_is_small_until_a_read_fills_it():
    reader = FrameReader(8 << 20)
    for size in (100, FIRST_READ_SIZE - 200, 50):
        assert len(feed(reader, frame(BINARY, b"x" * size))) == 1
        assert len(reader.buffer()) == FIRST_READ_SIZE
        assert len(reader._buffer) == FIRST_BUFFER_SIZE
    count = FIRST_READ_SIZE // 500 + 1
    assert len(feed(reader, frame(BINARY, b"x" * 500) * count)) == count
    assert len(reader.buffer()) == READ_SIZE
    assert len(reader._buffer) == BUFFER_SIZE


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_encoded_frames_are_masked_with_a_new_key_each(size):
    from tests.transport.test_mask import plain_mask

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


@given(reason=st.text(max_size=150))
def test_the_reason_of_a_close_is_cut_at_a_character(reason):
    payload = encode_close(1000, reason)
    assert len(payload) <= 125
    code, kept = parse_close(payload)
    assert code == 1000
    assert reason.startswith(kept)
    if kept != reason:  # one character more would have been too much
        assert len(reason[: len(kept) + 1].encode()) > 123


@pytest.mark.parametrize("sizes", [[], [0], [5], [125, 126], [1, 2, 3] * 50, [300, 1, 70_000, 0, 125] * 3])
def test_many_frames_are_those_of_each_message(sizes):
    payloads = [bytes(number % 251 for number in range(size)) for size in sizes]
    stream = encode_frames(payloads)
    received, keys, position = [], [], 0
    while position < len(stream):
        first, length = stream[position], stream[position + 1]
        assert (first, length & 0x80) == (0x82, 0x80)
        extra = {126: 2, 127: 8}.get(length & 0x7F, 0)
        position += 2 + extra
        size = int.from_bytes(stream[position - extra : position], "big") if extra else length & 0x7F
        key, masked = stream[position : position + 4], stream[position + 4 : position + 4 + size]
        keys.append(key)
        received.append(bytes(byte ^ key[index % 4] for index, byte in enumerate(masked)))
        position += 4 + size
    assert received == payloads
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "size", [0, 1, 125, FRAGMENT_SIZE - 1, FRAGMENT_SIZE, FRAGMENT_SIZE + 1, 3 * FRAGMENT_SIZE + 7]
)
def test_a_long_message_is_fragmented(size):
    """Another implementation puts the fragments together again, each of them masked by a key of its own."""
    payload = bytes(range(256)) * (size // 256 + 1)
    payload = payload[:size]
    frames = encode_message(payload)
    assert len(frames) == max(1, -(-size // FRAGMENT_SIZE))
    assert all(len(frame) <= FRAGMENT_SIZE + 14 for frame in frames)
    server = ServerProtocol(state=State.OPEN, max_size=None)
    for frame in frames:
        server.receive_data(bytes(frame))
    received = server.events_received()
    assert [part.opcode for part in received] == [BINARY] + [CONTINUATION] * (len(frames) - 1)
    assert [part.fin for part in received] == [False] * (len(frames) - 1) + [True]
    assert b"".join(part.data for part in received) == payload
