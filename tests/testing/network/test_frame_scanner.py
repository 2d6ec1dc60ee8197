"""The scan of a client's frames, whatever pieces they arrive in."""

from __future__ import annotations

import random

import pytest
import websocket

from pie_sync.testing._network.frame_scanner import MAX_MESSAGE_SIZE, FrameScanner, Stop, close_frame

MIB = 1024 * 1024
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LIMIT = 16 * MIB


def frame(payload: bytes, opcode: int = websocket.ABNF.OPCODE_BINARY, fin: int = 1) -> bytes:
    return bytes(websocket.ABNF(fin, 0, 0, 0, opcode, 1, payload).format())


def scanner(*, stop_at_close: bool = True) -> FrameScanner:
    scanner = FrameScanner(LIMIT, stop_at_close=stop_at_close)
    assert scanner.scan(HEAD) == (len(HEAD), None)
    return scanner


def test_a_frame_of_the_limit_passes_and_one_more_byte_does_not() -> None:
    small = frame(b"ping")
    assert scanner().scan(frame(bytes(LIMIT)))[1] is None
    assert scanner().scan(small + frame(bytes(LIMIT + 1))) == (len(small), Stop.TOO_LARGE)


def test_fragments_pass_up_to_64_mib_with_control_frames_in_between() -> None:
    followed = scanner()
    fragment, ping = bytes(MIB), frame(b"", websocket.ABNF.OPCODE_PING)
    assert followed.scan(frame(fragment, fin=0))[1] is None
    for _ in range(MAX_MESSAGE_SIZE // MIB - 1):
        assert followed.scan(ping + frame(fragment, websocket.ABNF.OPCODE_CONT, fin=0))[1] is None
    assert followed.scan(frame(b"x", websocket.ABNF.OPCODE_CONT)) == (0, Stop.TOO_LARGE)


def test_a_message_begins_anew() -> None:
    followed = scanner()
    for _ in range(MAX_MESSAGE_SIZE // LIMIT + 1):
        assert followed.scan(frame(bytes(LIMIT)))[1] is None


def test_the_scan_stops_at_a_close_frame_if_it_is_asked_to() -> None:
    close = frame(b"\x03\xe8bye", websocket.ABNF.OPCODE_CLOSE)
    assert scanner().scan(frame(b"x") + close) == (len(frame(b"x")), Stop.CLOSE_FRAME)
    assert scanner(stop_at_close=False).scan(frame(b"x") + close)[1] is None


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_every_length_in_pieces_of_any_size(size: int) -> None:
    frames = frame(bytes(size)) * 3
    sent = HEAD + frames + frame(b"", websocket.ABNF.OPCODE_CLOSE)
    pieces = random.Random(size)
    for longest in (1, 3, 17, 70_000):
        followed = FrameScanner(LIMIT, stop_at_close=True)
        position = 0
        while True:
            piece = sent[position : position + pieces.randint(1, longest)]
            passed, stop = followed.scan(piece)
            position += passed
            if stop is not None:
                break
        # The two bytes of a header that arrived earlier have passed already.
        assert stop is Stop.CLOSE_FRAME
        assert 0 <= position - len(HEAD + frames) < 6


@pytest.mark.parametrize(
    ("payload", "answer"),
    [(b"\x03\xe8", b"\x88\2\x03\xe8"), (b"\x03\xe9gone", b"\x88\2\x03\xe9"), (b"", b"\x88\0")],
)
def test_a_close_frame_is_answered_with_its_status(payload: bytes, answer: bytes) -> None:
    assert close_frame(frame(payload, websocket.ABNF.OPCODE_CLOSE)) == answer


def test_half_a_close_frame_is_answered_without_a_status() -> None:
    assert close_frame(frame(b"\x03\xe8", websocket.ABNF.OPCODE_CLOSE)[:3]) == b"\x88\0"
