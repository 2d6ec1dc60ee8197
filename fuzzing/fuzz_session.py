"""A whole session: the fuzzer decides what the server sends, and how callers launch, give up, receive and forget.

The session reads from a fake line, so that it needs no thread: this module does the reader's work. Callers act
between two reads, where the fuzzer decides. A journal records everything, and at the end a plain model of a
session, without queues and batches, computes from the journal what each caller must have received:

- The reader reads up to the end of the line, or up to bytes that end the connection, and never fails.
- A witness receives exactly the events that were sent to it, in order, and no error.
- So does every instance that was launched, with errors at their places.
- The first message that names a request settles it: with that answer, or with an error if the answer is malformed.
  Without an answer, the loss of the connection settles the request.
- Nothing is left: no pending request, no early events, no part of a blob.
- Beyond a limit, unconsumed events take no memory.
- The client sends nothing by itself but one pong for each ping, and one close.
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
from pie_sync._session.memory_limit import MemoryLimit
from pie_sync._session.session import Session
from pie_sync._transport.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, READ_SIZE, TEXT, encode_close

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuzzing.callers import Step

#: Memory limits for unconsumed events: a large one, and one so small that events go to disk.
BUFFERED = (1 << 20, 1 << 20, 1 << 20, 1000)

#: The generation of the protocol; None if it is still to be detected.
GENERATIONS = ("instance", "process", None)


def check(data: bytes) -> None:
    if WITNESS.encode() in data:
        return  # the fuzzer could send events to the witness
    source = Source(data)
    generation, buffered = source.pick(GENERATIONS), source.pick(BUFFERED)
    journal: list[Any] = []
    line = Line(journal)
    session = Session(
        Place(line),
        websocket_options={"max_message_size": MAX_MESSAGE_SIZE},
        max_blob_size=MAX_BLOB_SIZE,
        memory=MemoryLimit(buffered),
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
    check_requests(callers, model)
    check_instances(callers, model)
    check_said(line.said, model)
    pending = session.router.pending
    assert len(pending) == len(pending._expecting) == 0
    assert pending.early._events == {}
    assert pending.early._size == 0
    assert session.router._blobs._buffered == 0


def check_memory(callers: Callers, limit: int, spills: int) -> None:
    queues = [held.events for held in callers.instances if held is not None]
    # In addition, each queue may hold events that its consumer has read back: as much as was written at once.
    back = 2 * READ_SIZE * len(queues) if spills else 0
    # The session counts again when there may be an eighth more.
    assert sum(events.memory_size() for events in queues) <= limit + limit // 8 + back


def check_requests(callers: Callers, model: Model) -> None:
    for corr_id, request in callers.requests.items():
        expected = model.outcomes.get(corr_id)
        if expected is None:  # given up, and never answered
            assert not request.settled
        elif isinstance(expected, type):
            assert type(request.error) is expected, f"{corr_id}: {request.error!r}, {request.answer}"
        else:
            # NaN is not equal to itself, so the text is compared.
            assert repr(request.answer) == repr(expected), f"{corr_id}: {request.error!r}"


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
    """Return an event with the name of its blob, if it has one; or the type of an error."""
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
        elif opcode == BINARY:  # the farewell, which goes in the same write
            assert said[6 + size] & 0x0F == CLOSE
        else:
            assert opcode == CLOSE
            closes += 1
        del said[: 6 + size]
    assert pongs == model.pings
    assert closes <= 1


# --- what the fuzzer decides ------------------------------------------------------------------------------


def conversation(source: Source, callers: Callers, generation: str | None) -> Iterator[Step]:
    """Yield the bytes of each read, and the callers' actions in between, as the fuzzer decides."""
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
    """Return a message with a number to the witness, in the generation of the protocol that is spoken."""
    event = (
        {"type": "process_event", "process_id": WITNESS, "event": "message", "value": f"event {number}"}
        if spoken == "process"
        else {"type": "instance_event", "instance_id": WITNESS, "event": 0, "message": f"event {number}"}
    )
    return frame_of(event)


def says(source: Source, kind: int) -> bytes:
    """Return anything that a server may send; see the module ``grammar``."""
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


# --- first inputs -----------------------------------------------------------------------------------------

# Decisions of conversation().
LAUNCH, ASK, GIVE_UP, FORGET, RECEIVE, DECIDE = (bytes((12, action)) for action in range(6))
TO_WITNESS = b"\5"


def raw(message: dict[str, Any]) -> bytes:
    """Return the decisions that make the server send exactly this message."""
    data = frame_of(message)
    return bytes((11, len(data))) + data


def seeds() -> Iterator[bytes]:
    chunk = grammar.chunks(b"a blob", 2)
    answer = {"type": "instance_launch_result", "corr_id": 1, "successful": True, "message": "first"}
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
    launched = LAUNCH + b"\0" + raw(answer)
    for start in (b"\0\0", b"\0\3", b"\2\0"):
        yield start + launched + TO_WITNESS + raw(event) + RECEIVE + b"\1" + TO_WITNESS + raw(end)
        yield start + launched + ASK + b"\0" + b"".join(map(raw, blob)) + raw(pong) + raw(event)
        yield start + launched + raw(blob[0]) + FORGET + b"\1" + raw(event) + TO_WITNESS
        yield start + LAUNCH + b"\0" + GIVE_UP + b"\0" + raw(answer) + raw(event) + raw(end)
        yield start + ASK + b"\1" + raw({"type": "live_instances", "corr_id": 1, "instances": [{"id": "first"}]})
        yield start + ASK + b"\2" + raw({"type": "challenge", "corr_id": 1, "challenge": "AAAA"}) + DECIDE + b"\0"

    answer = {"type": "response", "corr_id": 1, "ok": True, "result": "first"}
    event = {"type": "process_event", "process_id": "first", "event": "stdout", "value": "text"}
    end = {**event, "event": "return"}
    file = {"type": "file", "process_id": "first", "file_hash": chunk[0].hash, "total_chunks": 1, "chunk_index": 0}
    launch = LAUNCH + b"\2"
    for start in (b"\1\0", b"\1\3", b"\2\0" + DECIDE + b"\1"):
        yield start + launch + raw(event) + raw(answer) + TO_WITNESS + raw(event) + raw(end)
        yield start + launch + raw(event) + raw(end) + raw(answer)
        # Events that arrive while no launch is pending belong to no instance, not even to a later one of that id.
        yield start + launch + raw(answer) + raw(end) + raw(event) + launch + raw({**answer, "corr_id": 2})
        yield start + launch + raw(answer) + raw({**file, "chunk_data": b"a blob", "name": "x.txt"}) + raw(end)
        yield (
            start + launch + raw(answer) + raw(event) + TO_WITNESS + bytes((7, 0, 3))
        )  # the streams are aborted
        yield start + ASK + b"\0" + bytes((7, 0, 2)) + TO_WITNESS  # a message of ours is refused

    for start in (b"\0\0", b"\1\0", b"\2\0"):
        yield start + bytes((8, 2)) + b"hi" + TO_WITNESS + TO_WITNESS + bytes((14, 0, 9)) + TO_WITNESS
        close = grammar.frame(CLOSE, encode_close(1000, "bye"))
        yield start + ASK + b"\0" + TO_WITNESS + bytes((11, len(close))) + close + TO_WITNESS
        for kind in range(12):
            yield start + LAUNCH + b"\0" + ASK + b"\0" + bytes((0, kind)) + bytes(16) + TO_WITNESS
