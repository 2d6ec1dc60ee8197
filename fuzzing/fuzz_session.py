"""A whole session: a server says what the fuzzer decides, while callers ask, launch, give up, receive and forget.

The session reads from a line that is no socket, so that it needs no thread: its reader's work is done here. What
callers do is done between two reads, where the fuzzer decides. All that happens is written into a journal, and in
the end a plain model of a session, without queues and batches, tells from it what everybody must have got:

- The reader reads up to the end of the line, or to what ends the connection, and never fails.
- A witness gets the events that were sent to it: all of them, in order, no others, and no error.
- So does every instance that was launched, with the errors in their place.
- Every call ends, by the first message that names it: with that, or with an error if it makes no sense. If there
  was none, then with the loss of the connection.
- Nothing is left: no waiting call, no early events, no part of a blob.
- Past a limit, what isn't consumed takes no memory.
- The client says nothing by itself but one pong for each ping and one close.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fuzzing import grammar
from fuzzing.callers import Callers, Line, Place
from fuzzing.harness import Source
from fuzzing.model import MAX_BLOB_SIZE, MAX_MESSAGE_SIZE, WITNESS, Model
from pie_sync import PieConnectionError, ProtocolError
from pie_sync._protocol import PROTOCOLS
from pie_sync._protocol.messages import pack
from pie_sync._session.event_queue import EventQueue
from pie_sync._session.session import Session
from pie_sync._transport.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, READ_SIZE, TEXT, encode_close

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuzzing.callers import Step

#: How much of what isn't consumed stays in memory: enough, or so little that it goes to disk.
BUFFERED = (1 << 20, 1 << 20, 1 << 20, 1000)

#: Which generation of the protocol is known to be spoken; None if that is still to be seen.
GENERATIONS = ("instance", "process", None)


def check(data: bytes) -> None:
    if WITNESS.encode() in data:
        return  # what the witness must get would be up to the fuzzer
    source = Source(data)
    generation, buffered = source.pick(GENERATIONS), source.pick(BUFFERED)
    journal: list[Any] = []
    line = Line(journal)
    session = Session(
        Place(line),
        websocket_options={"max_message_size": MAX_MESSAGE_SIZE},
        max_blob_size=MAX_BLOB_SIZE,
        max_buffered_bytes=buffered,
    )
    if generation is not None:
        session.router.protocol = PROTOCOLS[generation]
    model = Model(session.router._decoder)
    callers = Callers(session, journal)
    line.steps.extend(conversation(source, callers, generation))
    session._start_reader = lambda: None  # type: ignore[method-assign]  # this thread is the reader
    session.open()
    session._run()
    model.replay(journal)

    assert isinstance(session.error, PieConnectionError)
    assert "reader thread failed" not in str(session.error), repr(session.error.__cause__)
    check_memory(callers, buffered, session.router._memory.spills)
    check_calls(callers, model)
    check_instances(callers, model)
    check_said(line.said, model)
    calls = session.router.pending
    assert len(calls) == len(calls._expecting) == 0
    assert calls._early._events == {}
    assert calls._early._size == 0
    assert session.router._blobs._buffered == 0


def check_memory(callers: Callers, limit: int, spills: int) -> None:
    queues = [held.events for held in callers.instances if held is not None]
    # Beside that, there may be what consumers have brought back from the disk: of each queue what was written
    # there at once.
    back = 2 * READ_SIZE * len(queues) if spills else 0
    # The session looks again when it's an eighth more.
    assert sum(events.memory_size() for events in queues) <= limit + limit // 8 + back


def check_calls(callers: Callers, model: Model) -> None:
    for corr_id, call in callers.calls.items():
        expected = model.outcomes.get(corr_id)
        if expected is None:  # given up, and never answered
            assert not call.settled
        elif isinstance(expected, type):
            assert type(call.error) is expected, f"{corr_id}: {call.error!r}, {call.answer}"
        else:
            # Floats that are no numbers equal nothing, themselves included.
            assert repr(call.answer) == repr(expected), f"{corr_id}: {call.error!r}"


def check_instances(callers: Callers, model: Model) -> None:
    assert len(callers.instances) == len(model.instances)
    for held, expected in zip(callers.instances, model.instances):
        if held is None:
            continue
        while not held.is_over:
            assert held.receive(), "there must be an end"
        if expected.count(ProtocolError) <= EventQueue.MAX_ERRORS:
            received = list(map(comparable, held.received))
            assert received == list(map(comparable, expected)), f"{held.id!r} received {received}, not {expected}"
        assert held is not callers.instances[0] or ProtocolError not in held.received


def comparable(received: Any) -> Any:
    """An event with the name of its blob, if it is one; or the type of an error."""
    return received if isinstance(received, type) else (*received, getattr(received[1], "name", None))


def check_said(said: bytearray, model: Model) -> None:
    pongs = []
    closes = 0
    while said:
        opcode, size = said[0] & 0x0F, said[1] & 0x7F
        assert said[1] & 0x80
        mask, payload = said[2:6], said[6 : 6 + size]
        if opcode == PONG:
            pongs.append(bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)))
        else:
            assert opcode == CLOSE
            closes += 1
        del said[: 6 + size]
    assert pongs == model.pings
    assert closes <= 1


# --- what happens -----------------------------------------------------------------------------------------


def conversation(source: Source, callers: Callers, generation: str | None) -> Iterator[Step]:
    """Tell, as the fuzzer decides, what comes with each read, and what callers do in between."""
    actions = (callers.launch, callers.ask, callers.give_up, callers.forget, callers.receive, callers.decide)
    spoken, told = generation, 0
    data = b""
    while source:
        kind = source.number() % 16
        if kind in (12, 13):
            if data:
                yield data
            data = b""
            action, number = source.pick(actions), source.number()
            if action == callers.decide and spoken is None:
                spoken = Place.candidates[number % 2].name
            yield partial(action, number)
        elif kind == 14:
            place = source.number(2) % (len(data) + 1)
            if place:
                yield data[:place]
            data = data[place:]
        elif kind == 5:
            told += 1
            data += to_witness(spoken, told)
        else:
            data += says(source, kind)
    if data:
        yield data


def to_witness(spoken: str | None, number: int) -> bytes:
    """Tell the witness a number, in whatever generation of the protocol is spoken."""
    event = (
        {"type": "process_event", "process_id": WITNESS, "event": "message", "value": f"event {number}"}
        if spoken == "process"
        else {"type": "instance_event", "instance_id": WITNESS, "event": 0, "message": f"event {number}"}
    )
    return frame_of(event)


def says(source: Source, kind: int) -> bytes:
    """Whatever a server may say; see the module ``grammar``."""
    if kind == 7:
        return grammar.frame(TEXT, grammar.json_text(source))
    if kind == 8:
        return grammar.frame(PING, source.piece()[:125])
    if kind == 9:
        message = grammar.message(source)
        place = source.number() % (len(message) + 1)
        ping = grammar.frame(PING, b"between") if source.number() % 2 else b""
        return (
            grammar.frame(BINARY, message[:place], fin=False) + ping + grammar.frame(CONTINUATION, message[place:])
        )
    if kind == 10:
        return next(grammar.frames(source), b"")
    if kind == 11:
        return source.piece()
    if kind == 15:
        return grammar.frame(BINARY, grammar.value(source))
    return grammar.frame(BINARY, grammar.message(source))


def frame_of(message: dict[str, Any]) -> bytes:
    return grammar.frame(BINARY, pack(message))


# --- to begin with ----------------------------------------------------------------------------------------

# Decisions of conversation().
LAUNCH, ASK, GIVE_UP, FORGET, RECEIVE, DECIDE = (bytes((12, action)) for action in range(6))
TO_WITNESS = b"\5"


def raw(message: dict[str, Any]) -> bytes:
    """Have the server say a message, to the letter."""
    data = frame_of(message)
    return bytes((11, len(data))) + data


def seeds() -> Iterator[bytes]:
    chunk = grammar.chunks(b"a blob", 2)
    granted = {"type": "instance_launch_result", "corr_id": 1, "successful": True, "message": "first"}
    event = {"type": "instance_event", "instance_id": "first", "event": 0, "message": "text"}
    end = {**event, "event": 1}
    blob = [
        {
            "type": "download_blob",
            "corr_id": 0,
            "instance_id": "first",
            "blob_hash": part.hash,
            "chunk_index": part.index,
            "total_chunks": part.total,
            "chunk_data": part.data,
        }
        for part in chunk
    ]
    pong = {"type": "response", "corr_id": 2, "successful": True, "result": "Pong"}
    launched = LAUNCH + b"\0" + raw(granted)
    for start in (b"\0\0", b"\0\3", b"\2\0"):
        yield start + launched + TO_WITNESS + raw(event) + RECEIVE + b"\1" + TO_WITNESS + raw(end)
        yield start + launched + ASK + b"\0" + b"".join(map(raw, blob)) + raw(pong) + raw(event)
        yield start + launched + raw(blob[0]) + FORGET + b"\1" + raw(event) + TO_WITNESS
        yield start + LAUNCH + b"\0" + GIVE_UP + b"\0" + raw(granted) + raw(event) + raw(end)
        yield start + ASK + b"\1" + raw({"type": "live_instances", "corr_id": 1, "instances": [{"id": "first"}]})
        yield start + ASK + b"\2" + raw({"type": "challenge", "corr_id": 1, "challenge": "AAAA"}) + DECIDE + b"\0"

    granted = {"type": "response", "corr_id": 1, "ok": True, "result": "first"}
    event = {"type": "process_event", "process_id": "first", "event": "stdout", "value": "text"}
    end = {**event, "event": "return"}
    file = {"type": "file", "process_id": "first", "file_hash": chunk[0].hash, "total_chunks": 1, "chunk_index": 0}
    launch = LAUNCH + b"\2"
    for start in (b"\1\0", b"\1\3", b"\2\0" + DECIDE + b"\1"):
        yield start + launch + raw(event) + raw(granted) + TO_WITNESS + raw(event) + raw(end)
        yield start + launch + raw(event) + raw(end) + raw(granted)
        # What comes while nobody waits for an instance is nobody's, whoever is called so later.
        yield start + launch + raw(granted) + raw(end) + raw(event) + launch + raw({**granted, "corr_id": 2})
        yield start + launch + raw(granted) + raw({**file, "chunk_data": b"a blob", "name": "x.txt"}) + raw(end)
        yield (
            start + launch + raw(granted) + raw(event) + TO_WITNESS + bytes((7, 0, 3))
        )  # the streams are aborted
        yield start + ASK + b"\0" + bytes((7, 0, 2)) + TO_WITNESS  # a message of ours is refused

    for start in (b"\0\0", b"\1\0", b"\2\0"):
        yield start + bytes((8, 2)) + b"hi" + TO_WITNESS + TO_WITNESS + bytes((14, 0, 9)) + TO_WITNESS
        close = grammar.frame(CLOSE, encode_close(1000, "bye"))
        yield start + ASK + b"\0" + TO_WITNESS + bytes((11, len(close))) + close + TO_WITNESS
        for kind in range(12):
            yield start + LAUNCH + b"\0" + ASK + b"\0" + bytes((0, kind)) + bytes(16) + TO_WITNESS
