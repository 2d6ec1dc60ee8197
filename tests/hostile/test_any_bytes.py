"""Whatever bytes a server sends, the client reads on, or ends the connection; and nobody gets what isn't his.

Each example goes over a real connection. Beside it there is a witness, an instance that must get its events, no
more and no less, and afterwards a ping must be answered: a reader that died, or lost its place, shows at once.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pie_sync import Event, PieConnectionError, ProtocolError, QueryResult
from tests.hostile.conversation import Conversation, conversation

fuzz = settings(
    max_examples=5000 if os.environ.get("PIE_SYNC_EXHAUSTIVE") else 100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

WITNESS = Conversation.WITNESS

integers = st.one_of(
    st.integers(-3, 10), st.integers(-(2**63), 2**64 - 1), st.sampled_from([2**31, 2**32, -(2**31)])
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8)),
    st.just(msgpack.Timestamp(1, 2)),
)

values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.text(max_size=10), integers, st.binary(max_size=4)), inner, max_size=4),
    ),
    max_leaves=12,
)

#: What a server says, and what is right in each field.
MESSAGES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "response": {"corr_id": integers, "successful": st.booleans(), "ok": st.booleans(), "result": st.text()},
    "challenge": {"corr_id": integers, "challenge": st.text()},
    "instance_launch_result": {"corr_id": integers, "successful": st.booleans(), "message": st.text()},
    "instance_attach_result": {"corr_id": integers, "successful": st.booleans(), "message": st.text()},
    "live_instances": {
        "corr_id": integers,
        "instances": st.lists(
            st.fixed_dictionaries(
                {"id": scalars, "arguments": values, "status": scalars, "username": scalars},
                optional={"elapsed_secs": scalars, "kv_pages_used": scalars},
            ),
            max_size=3,
        ),
    },
    "instance_event": {"instance_id": st.text(), "event": st.integers(-1, 9), "message": st.text()},
    "streaming_output": {
        "instance_id": st.text(),
        "output": st.dictionaries(st.sampled_from(["Stdout", "Stderr", "Stdin"]), scalars, max_size=2),
    },
    "download_blob": {
        "corr_id": integers,
        "instance_id": st.text(),
        "blob_hash": st.text(),
        "chunk_index": integers,
        "total_chunks": integers,
        "chunk_data": st.binary(max_size=50),
    },
    "server_event": {"message": st.text()},
    "process_event": {"process_id": st.text(), "event": st.text(), "value": st.text()},
    "nonsense": {"corr_id": integers, "instance_id": st.text()},
}


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """A message of a known type, some of whose fields are wrong, or missing."""
    kind = draw(st.sampled_from(sorted(MESSAGES)))
    message: dict[str, Any] = {"type": draw(st.one_of(st.just(kind), scalars)) if draw(st.booleans()) else kind}
    for field, right in MESSAGES[kind].items():
        how = draw(st.sampled_from(["right", "right", "right", "wrong", "missing"]))
        if how != "missing":
            message[field] = draw(right if how == "right" else values)
    return message


@pytest.fixture(scope="module")
def talk():
    with conversation() as talk:
        yield talk


@fuzz
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_random_messages(talk: Conversation, payloads: list[bytes]):
    talk.say_packed(*payloads)
    assert talk.prove_life() == []


@fuzz
@given(st.lists(values, max_size=5))
def test_random_msgpack(talk: Conversation, objects: list[Any]):
    talk.say_packed(*(msgpack.packb(thing) for thing in objects))
    assert talk.prove_life() == []


@fuzz
@given(st.lists(st.tuples(values, st.integers(0, 400)), max_size=5))
def test_msgpack_that_is_cut_off(talk: Conversation, objects: list[tuple[Any, int]]):
    talk.say_packed(*(msgpack.packb(thing)[:length] for thing, length in objects))
    assert talk.prove_life() == []


@fuzz
@given(st.lists(messages(), max_size=5))
def test_messages_with_wrong_fields(talk: Conversation, said: list[dict[str, Any]]):
    talk.say_packed(*(msgpack.packb(message) for message in said))
    assert talk.prove_life() == []


@pytest.fixture
def asker():
    with ThreadPoolExecutor(1) as executor:
        yield executor


@fuzz
@given(said=st.lists(messages(), min_size=1, max_size=4), right=st.integers(0, 3))
def test_messages_that_answer_a_request(
    talk: Conversation, asker: ThreadPoolExecutor, said: list[dict[str, Any]], right: int
):
    """Who waits for an answer gets one that is meant for him, or an error. Never another one, never none."""
    outcome = asker.submit(talk.client.query, "who", "is there")
    corr_id = talk.requests.get(timeout=10)["corr_id"]
    expected = [QueryResult(True, "the right answer")]
    for number, message in enumerate(said):
        if number == right or message.get("corr_id") == corr_id:
            message["corr_id"] = corr_id
            if message["type"] == "response" and type(message.get("successful")) is bool:
                expected.append(QueryResult(message["successful"], message.get("result")))
            if message["type"] != "response" and message.get("successful") is False:
                expected.append(QueryResult(False, message.get("message")))
    talk.say(*said, {"type": "response", "corr_id": corr_id, "successful": True, "result": "the right answer"})
    try:
        assert outcome.result(timeout=10) in expected
    except ProtocolError as error:
        assert "query" in str(error) or "the server sent" in str(error)
    assert talk.prove_life() == []


@fuzz
@given(st.lists(messages(), max_size=5))
def test_messages_for_an_instance(talk: Conversation, said: list[dict[str, Any]]):
    """What is right arrives, in order; what is wrong is an error in its place. Nothing is left out.

    Nothing that can be read: of a message with a number as the key of a map nobody knows whose it is.
    """
    target = talk.client.launch_instance_from_registry("target")
    said = [message for message in said if message["type"] != "download_blob"]
    for message in said:
        if isinstance(message.get("instance_id"), str):
            message["instance_id"] = target.id
    expected = []
    for message in (*said, {"type": "instance_event", "instance_id": target.id, "event": 1, "message": "the end"}):
        if message.get("instance_id") == target.id and is_readable(message):
            expected.append(as_event(message))
            if expected[-1] is not ProtocolError and expected[-1][0].terminal:
                break
    talk.say(*said, {"type": "instance_event", "instance_id": target.id, "event": 1, "message": "the end"})
    received: list[Any] = []
    while not target.finished:
        try:
            received.append(target.recv(10))
        except ProtocolError:
            received.append(ProtocolError)
    assert received == expected
    assert talk.prove_life() == []


def is_readable(message: dict[str, Any]) -> bool:
    try:
        msgpack.unpackb(msgpack.packb(message))
    except ValueError:
        return False
    return True


def as_event(message: dict[str, Any]) -> Any:
    """What a message tells an instance that it names."""
    if message["type"] == "instance_event":
        code, text = message.get("event"), message.get("message")
        if isinstance(code, (int, float)) and code in range(6) and type(text) is str:
            return Event(code), text
    elif message["type"] == "streaming_output":
        output = message.get("output")
        for field, event in (("Stdout", Event.Stdout), ("Stderr", Event.Stderr)):
            if isinstance(output, dict) and field in output:
                return (event, output[field]) if type(output[field]) is str else ProtocolError
    return ProtocolError


@fuzz
@given(st.lists(st.text(max_size=200), max_size=5))
def test_text_frames(talk: Conversation, texts: list[str]):
    encoded = [text.encode(errors="replace") for text in texts]
    talk.say_bytes(b"".join(b"\x81\x7e" + len(data).to_bytes(2, "big") + data for data in encoded))
    assert talk.prove_life() == []


@pytest.fixture(scope="module")
def short_talk():
    """With a client that takes short messages only, so that none is waited for in vain."""
    with conversation(max_message_size=60_000) as talk:
        yield talk


#: The first byte of a frame (FIN, three reserved bits, opcode), its length in one of three forms, and its payload,
#: which may well be of another length.
frames = st.builds(
    lambda first, length, payload: bytes((first,)) + length + payload,
    st.one_of(st.sampled_from([0x82, 0x02, 0x80, 0x00, 0x81, 0x88, 0x89, 0x8A]), st.integers(0, 255)),
    st.one_of(
        st.integers(0, 255).map(lambda number: bytes((number,))),
        st.integers(0, 2**16 - 1).map(lambda number: b"\x7e" + number.to_bytes(2, "big")),
        st.integers(0, 2**64 - 1).map(lambda number: b"\x7f" + number.to_bytes(8, "big")),
    ),
    st.one_of(st.binary(max_size=50), st.integers(0, 60_000).map(bytes)),
)


@fuzz
@given(st.one_of(st.binary(min_size=1, max_size=100), st.lists(frames, max_size=5).map(b"".join)))
def test_bytes_that_are_no_frames(short_talk: Conversation, data: bytes):
    """What breaks the WebSocket protocol ends the connection, for everybody, and at once."""
    talk = short_talk
    talk.connect()
    # Behind them bytes that end whatever they began, and are no frame themselves.
    talk.say_bytes(data + b"\xff" * 70_000)
    with pytest.raises(PieConnectionError):
        while True:
            try:
                talk.witness.recv(10)
            except ProtocolError:
                pass  # they made a whole message, by chance
    with pytest.raises(PieConnectionError):
        talk.client.ping(timeout=10)
    assert talk.client.closed


def test_arguments_that_are_nested_deeply():
    """Deeper than Python can print, but not too deep for MessagePack."""
    with conversation() as talk, ThreadPoolExecutor(1) as asker:
        outcome = asker.submit(talk.client.list_instances)
        corr_id = msgpack.packb(talk.requests.get(timeout=10)["corr_id"])
        nested = b"\x91" * 1000 + b"\xc0"
        talk.say_packed(
            b"\x83\xa4type\xaelive_instances\xa7corr_id"
            + corr_id
            + b"\xa9instances\x91\x82\xa2id\xa1x\xa9arguments"
            + nested
        )
        with pytest.raises(ProtocolError):
            outcome.result(timeout=10)
        assert talk.prove_life() == []
