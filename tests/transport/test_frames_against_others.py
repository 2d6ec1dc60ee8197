"""Our frames against those of others: websocket-client's reader, and ``websockets`` without its I/O.

The same streams go to our ``FrameReader`` and to theirs, cut at the same random places. Where an implementation is
known to differ, the difference is data in this file and both sides of it are asserted, so that it is noticed when
either changes.
"""

from __future__ import annotations

import struct
from typing import Callable, NamedTuple

import pytest
import websocket
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import Close
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from pie_sync._transport.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameError,
    FrameReader,
    encode_close,
    encode_frame,
    parse_close,
)
from tests.transport.test_frames import feed, frame

#: An example takes longer on a busy machine; that's no failure.
unhurried = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])


# --- the three readers ------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What a reader makes of a stream, up to the first close frame: what is behind it counts for nobody."""

    messages: list[tuple[int, bytes]]
    refused: bool


def read_by_us(pieces: list[bytes], max_message_size: int = 1 << 20) -> Outcome:
    reader = FrameReader(max_message_size)
    messages = []
    for piece in pieces:
        for opcode, payload in feed(reader, piece):
            messages.append((opcode, payload.encode() if isinstance(payload, str) else payload))
            if opcode == CLOSE:
                return Outcome(messages, refused=False)
    return Outcome(messages, refused=reader.error is not None)


class FedWebSocket(websocket.WebSocket):
    """websocket-client's own reader and its logic of messages, on bytes instead of a socket."""

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


def read_by_websockets(pieces: list[bytes], max_message_size: int = 1 << 20) -> Outcome:
    """``websockets`` checks frames. Messages and UTF-8 are for the layer above it, which is here."""
    protocol = ClientProtocol(parse_uri("ws://server/"), state=State.OPEN, max_size=max_message_size)
    for piece in pieces:
        protocol.receive_data(piece)
    messages: list[tuple[int, bytes]] = []
    message_opcode, fragments = BINARY, b""
    for received in protocol.events_received():
        opcode, payload = int(received.opcode), bytes(received.data)
        if opcode >= CLOSE:
            messages.append((opcode, payload))
            if opcode == CLOSE:
                return Outcome(messages, refused=False)
            continue
        if opcode != CONTINUATION:
            message_opcode, fragments = opcode, b""
        fragments += payload
        if received.fin:
            if message_opcode == TEXT and fragments.decode(errors="replace").encode() != fragments:
                return Outcome(messages, refused=True)
            messages.append((message_opcode, fragments))
    return Outcome(messages, refused=protocol.parser_exc is not None)


# --- streams ----------------------------------------------------------------------------------------------


def pattern(size: int, first: int) -> bytes:
    """``size`` bytes, none like its neighbours, so that one lost or doubled shows."""
    return (bytes(range(first, 256)) + bytes(range(256)) * (size // 256 + 1))[:size]


sizes = st.one_of(
    st.integers(0, 20), st.sampled_from([124, 125, 126, 127, 128, 65534, 65535, 65536, 65537, 70_000])
)
payloads = st.builds(pattern, sizes, st.integers(0, 255))
control_payloads = st.builds(pattern, st.sampled_from([0, 1, 2, 17, 124, 125]), st.integers(0, 255))
length_bits = st.sampled_from([7, 7, 7, 16, 64])

controls = st.builds(
    lambda opcode, payload, bits: [frame(opcode, payload, length_bits=bits)],
    st.sampled_from([PING, PONG]),
    control_payloads,
    length_bits,
)
closes = st.one_of(
    st.just([frame(CLOSE)]),
    st.builds(
        lambda code, reason: [frame(CLOSE, encode_close(code, reason))],
        st.sampled_from([1000, 1001, 1003, 1007, 1014, 3000, 4999]),
        st.text(max_size=60),
    ),
)


@st.composite
def cut_in_parts(draw: st.DrawFn, payload: bytes) -> list[bytes]:
    stops = [*sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3))), len(payload)]
    return [payload[start:stop] for start, stop in zip([0, *stops], stops)]


bodies = st.one_of(
    st.tuples(st.just(BINARY), payloads),
    st.tuples(st.just(TEXT), st.text(max_size=60).map(str.encode)),
)


@st.composite
def healthy_messages(draw: st.DrawFn) -> list[bytes]:
    """The frames of one message: fragments, cut also inside a character, and control frames between them."""
    opcode, body = draw(bodies)
    fragments = draw(cut_in_parts(body))
    frames: list[bytes] = []
    for number, fragment in enumerate(fragments, 1):
        frames.append(
            frame(
                CONTINUATION if frames else opcode,
                fragment,
                fin=number == len(fragments),
                length_bits=draw(length_bits),
            )
        )
        if number < len(fragments):
            for between in draw(st.lists(controls, max_size=2)):
                frames += between
    return frames


class Fault(NamedTuple):
    """What RFC 6455 forbids and everybody refuses."""

    section: str
    frames: list[bytes]
    before: list[tuple[int, bytes]] = []  # noqa: RUF012 - the messages that are whole before the fault shows


FAULTS = [
    *(
        Fault("5.2", [frame(opcode, b"x", rsv=rsv)])
        for rsv in (1, 2, 4, 7)
        for opcode in (TEXT, BINARY, PING, PONG)
    ),
    Fault("5.2", [frame(CLOSE, rsv=4)]),
    *(Fault("5.2", [frame(opcode, b"x")]) for opcode in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)),
    Fault("5.4", [frame(CONTINUATION, b"x")]),
    Fault("5.4", [frame(CONTINUATION, b"x", fin=False)]),
    Fault("5.4", [frame(BINARY, b"x", fin=False), frame(BINARY, b"y")]),
    Fault("5.4", [frame(TEXT, fin=False), frame(PING), frame(TEXT, fin=False)], before=[(PING, b"")]),
    Fault("5.4", [frame(BINARY, fin=False), frame(CONTINUATION), frame(CONTINUATION)], before=[(BINARY, b"")]),
    Fault("5.5", [frame(PING, b"x" * 126)]),
    Fault("5.5", [frame(PING, b"x" * 70_000)]),
    Fault("5.5", [frame(PING, b"x", fin=False)]),
    Fault("5.5", [frame(CLOSE, b"\x03\xe8" + b"x" * 124)]),
    Fault("5.5.1", [frame(CLOSE, b"\x03")]),
    Fault("5.5.1", [frame(CLOSE, b"\x03\xe8\xff")]),
    Fault("5.5.1", [frame(CLOSE, b"\x03\xe8\xed\xa0\x80")]),
    *(
        Fault("7.4", [frame(CLOSE, struct.pack("!H", code))])
        for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)
    ),
    Fault("8.1", [frame(TEXT, b"\xff")]),
    Fault("8.1", [frame(TEXT, b"\xc0\x80")]),  # an overlong zero
    Fault("8.1", [frame(TEXT, b"\xed\xa0\x80")]),  # half of a surrogate pair
    Fault("8.1", [frame(TEXT, b"\xf4\x90\x80\x80")]),  # beyond U+10FFFF
    Fault("8.1", [frame(TEXT, b"\xc3", fin=False), frame(CONTINUATION, b"\x28")]),
]

faults = st.sampled_from(FAULTS).map(lambda fault: fault.frames)

#: Frames from several items, and places to cut them: (number of a frame, offset from its start).
streams = st.lists(
    st.one_of(healthy_messages(), healthy_messages(), healthy_messages(), controls, closes, faults), max_size=8
).map(lambda items: [frame for item in items for frame in item])
places = st.lists(
    st.tuples(st.integers(0, 40), st.one_of(st.integers(0, 16), st.integers(0, 70_000))), max_size=12
)


def cut(frames: list[bytes], places: list[tuple[int, int]]) -> list[bytes]:
    """Cut a stream of frames at ``places``, many of which are inside a frame's head."""
    starts = [0]
    for encoded in frames:
        starts.append(starts[-1] + len(encoded))
    length = starts[-1]
    stops = sorted({min(starts[number % len(starts)] + offset, length) for number, offset in places} | {length})
    stream = b"".join(frames)
    return [stream[start:stop] for start, stop in zip([0, *stops], stops) if start < stop]


# --- websocket-client -------------------------------------------------------------------------------------


@unhurried
@given(streams, places)
def test_we_read_what_websocket_client_reads(frames, places):
    pieces = cut(frames, places)
    assert read_by_us(pieces) == read_by_websocket_client(pieces)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("read", [read_by_us, read_by_websocket_client, read_by_websockets])
def test_faults_are_refused_by_all_three(read, fault):
    stream = [frame(BINARY, b"before"), *fault.frames, frame(BINARY, b"behind")]
    assert read(stream) == Outcome([(BINARY, b"before"), *fault.before], refused=True)


class RawFrame(NamedTuple):
    opcode: int
    payload: bytes
    fin: bool
    rsv: int
    masked: bool
    length_bits: int

    def encode(self) -> bytes:
        return frame(
            self.opcode,
            self.payload,
            fin=self.fin,
            rsv=self.rsv,
            masked=self.masked,
            length_bits=self.length_bits,
        )


def rarely(strategy: st.SearchStrategy[int], usual: int) -> st.SearchStrategy[int]:
    return st.one_of(*[st.just(usual)] * 9, strategy)


raw_payloads = st.one_of(
    payloads,
    st.binary(max_size=4),
    st.builds(
        lambda code, reason: struct.pack("!H", code) + reason,
        st.sampled_from([999, 1000, 1004, 1005, 1014, 1015, 2999, 3000, 4999, 5000]),
        st.binary(max_size=4),
    ),
)
any_frames = st.lists(
    st.builds(
        RawFrame,
        st.one_of(st.sampled_from([CONTINUATION, TEXT, BINARY, BINARY, PING, PONG, CLOSE]), st.integers(0, 15)),
        raw_payloads,
        st.booleans(),
        rarely(st.integers(0, 7), usual=0),
        rarely(st.booleans(), usual=False),
        length_bits,
    ),
    max_size=6,
)


@unhurried
@given(any_frames, places)
def test_whatever_comes_we_are_never_laxer_than_websocket_client(frames, places):
    pieces = cut([raw.encode() for raw in frames], places)
    ours, theirs = read_by_us(pieces), read_by_websocket_client(pieces)
    assert ours.messages == theirs.messages[: len(ours.messages)]
    assert ours.refused or ours == theirs


class Laxity(NamedTuple):
    """What RFC 6455 forbids, we refuse, and websocket-client lets pass."""

    section: str
    what: str
    frames: list[bytes]
    code: int  # the close code that we refuse it with
    theirs: list[tuple[int, bytes]]  # the messages that they make of it


LAXITIES = [
    Laxity("5.1", "a masked message", [frame(BINARY, b"x", masked=True)], 1002, [(BINARY, b"x")]),
    Laxity("5.1", "a masked empty message", [frame(BINARY, masked=True)], 1002, [(BINARY, b"")]),
    Laxity("5.1", "a masked text", [frame(TEXT, b"x" * 126, masked=True)], 1002, [(TEXT, b"x" * 126)]),
    Laxity("5.1", "a masked ping", [frame(PING, b"x", masked=True)], 1002, [(PING, b"x")]),
    Laxity("5.1", "a masked close", [frame(CLOSE, b"\x03\xe8", masked=True)], 1002, [(CLOSE, b"\x03\xe8")]),
    Laxity("5.5", "a pong of 126 bytes", [frame(PONG, b"x" * 126)], 1002, [(PONG, b"x" * 126)]),
    Laxity("5.5", "a pong of 70 000 bytes", [frame(PONG, b"x" * 70_000)], 1002, [(PONG, b"x" * 70_000)]),
    Laxity("5.5", "a fragmented pong", [frame(PONG, b"x", fin=False)], 1002, [(PONG, b"x")]),
    Laxity("5.5", "a fragmented close", [frame(CLOSE, b"\x03\xe8", fin=False)], 1002, [(CLOSE, b"\x03\xe8")]),
    Laxity(
        "5.5.1",
        "a close whose reason ends inside a character",
        [frame(CLOSE, b"\x03\xe8\xc3")],
        1007,
        [(CLOSE, b"\x03\xe8\xc3")],
    ),
    Laxity("8.1", "a text that ends inside a character", [frame(TEXT, b"x\xc3")], 1007, [(TEXT, b"x\xc3")]),
    Laxity(
        "8.1",
        "a fragmented text that ends inside a character",
        [frame(TEXT, b"\xe2", fin=False), frame(CONTINUATION, b"\x82")],
        1007,
        [(TEXT, b"\xe2\x82")],
    ),
    Laxity("10.4", "a message past the limit", [frame(BINARY, b"x" * 100_001)], 1009, [(BINARY, b"x" * 100_001)]),
    Laxity(
        "10.4",
        "fragments that are past the limit together",
        [frame(BINARY, b"x" * 60_000, fin=False), frame(CONTINUATION, b"x" * 40_001)],
        1009,
        [(BINARY, b"x" * 100_001)],
    ),
]


@pytest.mark.parametrize("laxity", LAXITIES, ids=lambda laxity: laxity.what.replace(" ", "-"))
def test_where_websocket_client_is_laxer(laxity):
    stream = [frame(BINARY, b"before"), *laxity.frames, frame(BINARY, b"behind")]
    reader = FrameReader(max_message_size=100_000)
    assert feed(reader, b"".join(stream)) == [(BINARY, b"before")]
    assert reader.error is not None
    assert reader.error.code == laxity.code
    behind = [] if laxity.theirs[-1][0] == CLOSE else [(BINARY, b"behind")]
    accepted = Outcome([(BINARY, b"before"), *laxity.theirs, *behind], refused=False)
    assert read_by_websocket_client(stream) == accepted


def test_a_length_with_the_highest_bit_set():
    # Section 5.2: "the most significant bit MUST be 0". They wait for 2**63 bytes instead.
    stream = [struct.pack("!BBQ", 0x80 | BINARY, 127, 1 << 63), b"x" * 1000]
    assert read_by_us(stream) == Outcome([], refused=True)
    assert read_by_websockets(stream) == Outcome([], refused=True)
    assert read_by_websocket_client(stream) == Outcome([], refused=False)


@pytest.mark.parametrize(("size", "bits"), [(0, 16), (0, 64), (125, 16), (125, 64), (126, 64), (65535, 64)])
@pytest.mark.parametrize("opcode", [BINARY, TEXT, PING, PONG])
def test_a_length_in_a_longer_form_than_it_needs(opcode, size, bits):
    # Section 5.2: "the minimal number of bytes MUST be used to encode the length", which binds the sender. Nobody
    # refuses it: there is only one way to understand it.
    if opcode in (PING, PONG) and size > 125:
        return
    stream = [frame(opcode, b"x" * size, length_bits=bits)]
    assert len(stream[0]) == 2 + bits // 8 + size
    for read in (read_by_us, read_by_websocket_client, read_by_websockets):
        assert read(stream) == Outcome([(opcode, b"x" * size)], refused=False)


def test_every_close_code_is_judged_alike_by_all_three():
    # Section 7.4, and what was registered since: 1012 to 1014.
    def is_accepted(judge: Callable[[bytes], object], payload: bytes) -> bool:
        try:
            judge(payload)
        except (FrameError, websocket.WebSocketProtocolException, ProtocolError):
            return False
        return True

    def websocket_client(payload: bytes) -> None:
        websocket.ABNF(1, 0, 0, 0, CLOSE, 0, payload).validate()

    accepted = set()
    for code in range(65536):
        payload = struct.pack("!H", code)
        judgements = {is_accepted(judge, payload) for judge in (parse_close, websocket_client, Close.parse)}
        assert len(judgements) == 1, code
        if judgements == {True}:
            accepted.add(code)
    assert accepted == {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}


# --- websockets, as a reader ------------------------------------------------------------------------------


@unhurried
@given(any_frames, places)
def test_whatever_comes_we_read_what_websockets_reads(frames, places):
    unfinished = [raw for raw in frames if raw.opcode in (CONTINUATION, TEXT, BINARY) and not raw.fin]
    assume(not (unfinished and any(raw.opcode == CLOSE for raw in frames)))  # see the next test
    pieces = cut([raw.encode() for raw in frames], places)
    assert read_by_us(pieces) == read_by_websockets(pieces)


def test_a_close_between_fragments():
    # Section 5.4: "control frames MAY be injected in the middle of a fragmented message", and 5.5.1 makes no
    # exception of the close frame. websockets does.
    stream = [frame(BINARY, b"x", fin=False), frame(CLOSE, b"\x03\xe8"), frame(CONTINUATION, b"y")]
    accepted = Outcome([(CLOSE, b"\x03\xe8")], refused=False)
    assert read_by_us(stream) == accepted
    assert read_by_websocket_client(stream) == accepted
    assert read_by_websockets(stream) == Outcome([], refused=True)


@pytest.mark.parametrize("too_much", [0, 1])
@pytest.mark.parametrize("fragments", [[1000], [0, 1000], [400, 600], [999, 0, 1], [1000, 0]])
def test_the_limit_is_the_same_as_that_of_websockets(fragments, too_much):
    stream = [
        frame(CONTINUATION if number else BINARY, b"x" * size, fin=number == len(fragments) - 1)
        for number, size in enumerate(fragments)
    ]
    limit = sum(fragments) - too_much
    outcome = Outcome([] if too_much else [(BINARY, b"x" * 1000)], refused=bool(too_much))
    assert read_by_us(stream, limit) == outcome
    assert read_by_websockets(stream, limit) == outcome


# --- websockets, as a server ------------------------------------------------------------------------------


class Script(NamedTuple):
    """What a server says: messages with their fragments, control frames before each fragment, a close or none."""

    messages: list[tuple[int, list[tuple[list[tuple[int, bytes]], bytes]]]]
    close: tuple[int | None, str] | None


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    said = []
    for opcode, body in draw(st.lists(bodies, max_size=5)):
        fragments = []
        for fragment in draw(cut_in_parts(body)):
            between = st.lists(st.tuples(st.sampled_from([PING, PONG]), control_payloads), max_size=2)
            fragments.append((draw(between), fragment))
        said.append((opcode, fragments))
    close = st.one_of(
        st.none(),
        st.just((None, "")),
        st.tuples(st.sampled_from([1000, 1001, 1011, 4000]), st.text(max_size=30)),
    )
    return Script(said, draw(close))


@unhurried
@given(scripts(), places)
def test_what_a_server_says_reaches_us(script, places):
    server = ServerProtocol(state=State.OPEN)
    expected = []
    for opcode, fragments in script.messages:
        for number, (between, fragment) in enumerate(fragments, 1):
            for control, payload in between:
                (server.send_ping if control == PING else server.send_pong)(payload)
                expected.append((control, payload))
            if number > 1:
                server.send_continuation(fragment, fin=number == len(fragments))
            elif opcode == TEXT:
                server.send_text(fragment, fin=number == len(fragments))
            else:
                server.send_binary(fragment, fin=number == len(fragments))
        expected.append((opcode, b"".join(fragment for _, fragment in fragments)))
    if script.close is not None:
        code, reason = script.close
        server.send_close(code, reason)
        expected.append((CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode()))
    ours = read_by_us(cut(server.data_to_send(), places))
    assert ours == Outcome(expected, refused=False)
    if script.close is not None:
        assert parse_close(ours.messages[-1][1]) == (1005 if code is None else code, reason)


@unhurried
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just(BINARY), payloads.flatmap(cut_in_parts)),
            st.tuples(st.sampled_from([PING, PONG]), control_payloads.flatmap(cut_in_parts)),
        ),
        max_size=8,
    ),
    st.one_of(st.none(), st.tuples(st.sampled_from([1000, 1001, 3000]), st.text(max_size=200))),
    places,
)
def test_what_we_say_reaches_a_server(said, close, places):
    frames = [encode_frame(opcode, *parts) for opcode, parts in said]
    expected = [(opcode, b"".join(parts)) for opcode, parts in said]
    answers = [(PONG, payload) for opcode, payload in expected if opcode == PING]
    if close is not None:
        farewell = encode_close(*close)
        frames.append(encode_frame(CLOSE, farewell))
        expected.append((CLOSE, farewell))
        answers.append((CLOSE, farewell))
    server = ServerProtocol(state=State.OPEN)
    for piece in cut(frames, places):
        server.receive_data(piece)
    received = server.events_received()
    assert server.parser_exc is None
    assert all(event.fin for event in received)
    assert [(int(event.opcode), bytes(event.data)) for event in received] == expected
    assert read_by_us(cut(server.data_to_send(), places)) == Outcome(answers, refused=False)


@pytest.mark.parametrize(
    "size", [0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 128, 129, 1535, 1536, 1537, 65535, 65536, 262_144 + 200]
)
def test_every_size_reaches_a_server(size):
    payload = pattern(size, 0)
    server = ServerProtocol(state=State.OPEN)
    for parts in ([payload], [payload[:7], payload[7:]], [b"", memoryview(payload), bytearray()]):
        server.receive_data(encode_frame(BINARY, *parts))
        (received,) = server.events_received()
        assert (received.opcode, bytes(received.data)) == (BINARY, payload)
