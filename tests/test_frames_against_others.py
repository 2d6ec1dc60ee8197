"""Our frames against those of others: websocket-client's reader, and ``websockets`` without its I/O.

The same streams go to our ``FrameReader`` and to theirs. Where an implementation is known to differ, the
difference is data in this file, and both sides of it are asserted: it is noticed when either changes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest
import websocket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from pie_sync._frames import BINARY, CLOSE, PING, PONG, TEXT, FrameReader, encode_close, encode_frame, parse_close
from tests.test_frames import feed, frame

CONTINUATION = 0
MAX_MESSAGE_SIZE = 1 << 20

#: Examples take longer on a busy machine; that's no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Outcome(NamedTuple):
    """What a reader makes of a stream, up to the first close frame: what is behind it counts for nobody."""

    messages: list[tuple[int, bytes]]
    refused: bool


def read_by_us(pieces: list[bytes]) -> Outcome:
    reader = FrameReader(MAX_MESSAGE_SIZE)
    messages = []
    for piece in pieces:
        for opcode, payload in feed(reader, piece):
            messages.append((opcode, payload.encode() if isinstance(payload, str) else payload))
            if opcode == CLOSE:
                return Outcome(messages, refused=False)
    return Outcome(messages, refused=reader.error is not None)


class FedWebSocket(websocket.WebSocket):
    """websocket-client's own reader and message logic, on bytes instead of a socket."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__()
        self.connected = True
        self._pieces = [piece for piece in reversed(pieces) if piece]

    def _recv(self, bufsize: int) -> bytes:
        if not self._pieces:
            raise websocket.WebSocketConnectionClosedException
        piece = self._pieces.pop()
        if len(piece) > bufsize:
            self._pieces.append(piece[bufsize:])
        return piece[:bufsize]

    def _send(self, data: bytes) -> int:
        return len(data)  # the answer to a ping or a close


def read_by_websocket_client(pieces: list[bytes]) -> Outcome:
    reader = FedWebSocket(pieces)
    messages = []
    try:
        while True:
            opcode, received = reader.recv_data_frame(control_frame=True)
            messages.append((opcode, bytes(received.data)))
            if opcode == CLOSE:
                return Outcome(messages, refused=False)
    except websocket.WebSocketConnectionClosedException:
        return Outcome(messages, refused=False)
    except (websocket.WebSocketProtocolException, websocket.WebSocketPayloadException):
        return Outcome(messages, refused=True)


def read_by_websockets(pieces: list[bytes]) -> Outcome:
    """``websockets`` hands out frames; messages and UTF-8 are the business of the layer above, here this one."""
    protocol = ClientProtocol(parse_uri("ws://server/"), state=State.OPEN, max_size=MAX_MESSAGE_SIZE)
    for piece in pieces:
        protocol.receive_data(piece)
    messages: list[tuple[int, bytes]] = []
    fragments, message_opcode = b"", 0
    for received in protocol.events_received():
        opcode = int(received.opcode)
        payload = bytes(received.data)
        if opcode in (TEXT, BINARY):
            fragments, message_opcode = payload, opcode
        elif opcode == CONTINUATION:
            fragments += payload
        else:
            messages.append((opcode, payload))
            if opcode == CLOSE:
                return Outcome(messages, refused=False)
            continue
        if received.fin:
            if message_opcode == TEXT and not is_utf8(fragments):
                return Outcome(messages, refused=True)
            messages.append((message_opcode, fragments))
    return Outcome(messages, refused=protocol.parser_exc is not None)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- streams that server might send -----------------------------------------------------------------------

sizes = st.one_of(
    st.integers(0, 20), st.sampled_from([124, 125, 126, 127, 128, 65534, 65535, 65536, 65537, 70_000])
)
length_bits = st.sampled_from([7, 7, 7, 16, 64])


def pattern(size: int, first: int) -> bytes:
    """``size`` bytes, none like its neighbours, so that a byte lost or doubled shows."""
    return (bytes(range(first, 256)) + bytes(range(256)) * (size // 256 + 1))[:size]


payloads = st.builds(pattern, sizes, st.integers(0, 255))
control_payloads = st.builds(pattern, st.one_of(st.integers(0, 20), st.integers(120, 125)), st.integers(0, 255))
controls = st.builds(
    lambda opcode, payload, bits: frame(opcode, payload, length_bits=bits),
    st.sampled_from([PING, PONG]),
    control_payloads,
    length_bits,
)
close_payloads = st.one_of(
    st.just(b""), st.builds(encode_close, st.sampled_from([1000, 1001, 1011, 1014, 3000, 4999]), st.text(max_size=50))
)
closes = st.builds(lambda payload: frame(CLOSE, payload), close_payloads)


@st.composite
def messages(draw: st.DrawFn) -> list[bytes]:
    """The frames of one message, cut into fragments, with control frames between them."""
    opcode = draw(st.sampled_from([BINARY, BINARY, TEXT]))
    body = draw(payloads) if opcode == BINARY else draw(st.text(max_size=60)).encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
    frames = []
    for start, stop in zip([0, *cuts], [*cuts, len(body)]):
        frames.append(
            frame(
                CONTINUATION if frames else opcode,
                body[start:stop],
                fin=len(frames) == len(cuts) + frames_between(frames),
                length_bits=draw(length_bits),
            )
        )
    return frames


def frames_between(frames: list[bytes]) -> int:
    return 0
