"""Reading events by what is remembered must give what unpacking them gives, whatever comes."""

from __future__ import annotations

import sys

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pie_sync import Event
from pie_sync._protocol import InstanceProtocol, PrefixCache, ProcessProtocol
from pie_sync._protocol.messages import BadMessage
from pie_sync._session.event_queue import EventQueue

INSTANCE, PROCESS = InstanceProtocol(), ProcessProtocol()
ID = "00000000-0000-4000-8000-000000000001"


def outcome(decode, payload):
    try:
        return decode(payload)
    except BadMessage as bad:
        return str(bad), bad.corr_id, bad.instance_id


texts = st.one_of(
    st.text(max_size=40),
    st.integers(0, 900).map(lambda size: "x" * size),
    st.sampled_from(["", "é" * 16, "x" * 31, "x" * 32, "x" * 255, "x" * 256, "Signal"]),
)
ids = st.sampled_from([ID, ID.replace("1", "2"), "i", ""])

instance_events = st.builds(
    lambda whose, event, text: {"type": "instance_event", "instance_id": whose, "event": event, "message": text},
    ids,
    st.integers(-1, 9),
    texts,
)
outputs = st.builds(
    lambda whose, kind, text: {"type": "streaming_output", "instance_id": whose, "output": {kind: text}},
    ids,
    st.sampled_from(["Stdout", "Stderr", "Stdlog"]),
    texts,
)
process_events = st.builds(
    lambda whose, event, text: {"type": "process_event", "process_id": whose, "event": event, "value": text},
    ids,
    st.sampled_from(["stdout", "stderr", "message", "return", "error", "novelty"]),
    texts,
)
#: The same text in more fields than one, and fields in another order than usual.
unusual = st.builds(
    lambda fields, text, order: dict(sorted({**fields, "extra": text}.items(), key=lambda pair: pair[0] == order)),
    st.one_of(instance_events, outputs, process_events),
    texts,
    st.sampled_from(["type", "instance_id", "message", "value", "event", "extra"]),
)


@st.composite
def damaged(draw, payloads):
    """A message as it should be, or one that is cut, longer, or has other bytes in it."""
    payload = bytearray(draw(payloads))
    for _ in range(draw(st.integers(0, 2))):
        kind, position = draw(st.sampled_from(["cut", "add", "change"])), draw(st.integers(0, len(payload)))
        if kind == "cut":
            del payload[position:]
        elif kind == "add":
            payload += draw(st.binary(max_size=3))
        elif position < len(payload):
            payload[position] = draw(st.integers(0, 255))
    return bytes(payload)


messages = st.one_of(instance_events, outputs, process_events, unusual).map(msgpack.packb)


@pytest.mark.parametrize("generation", [INSTANCE, PROCESS])
@given(payloads=st.lists(st.one_of(messages, damaged(messages)), max_size=30))
def test_the_same_as_without(generation, payloads):
    repeats = PrefixCache(generation)
    for payload in [*payloads, *payloads]:  # the second time, all of them are known
        for given_as in (bytes, bytearray, memoryview):
            assert outcome(repeats.decode, given_as(payload)) == outcome(generation.decode, payload)


#: Of each kind of event how its message is made, given the text.
KINDS = [
    (INSTANCE, lambda text: {"type": "instance_event", "instance_id": ID, "event": 0, "message": text}),
    (INSTANCE, lambda text: {"type": "streaming_output", "instance_id": ID, "output": {"Stdout": text}}),
    (INSTANCE, lambda text: {"type": "streaming_output", "instance_id": ID, "output": {"Stderr": text}}),
    (PROCESS, lambda text: {"type": "process_event", "process_id": ID, "event": "message", "value": text}),
    (PROCESS, lambda text: {"type": "process_event", "process_id": ID, "event": "stdout", "value": text}),
    (PROCESS, lambda text: {"type": "process_event", "process_id": ID, "event": "stderr", "value": text}),
]


class Counting:
    """A generation that counts how often it is asked."""

    def __init__(self, generation) -> None:
        self._generation = generation
        self.before_text = generation.before_text
        self.decoded = 0

    def decode(self, payload):
        self.decoded += 1
        return self._generation.decode(payload)


@pytest.mark.parametrize(("generation", "message"), KINDS)
def test_what_is_known_is_not_unpacked_again(generation, message):
    counting = Counting(generation)
    repeats = PrefixCache(counting)
    for number in range(50):
        text = f"{number}" * number
        whose, event, got = repeats.decode(msgpack.packb(message(text)))
        assert (whose, got) == (ID, text)
        assert not event.terminal
    assert counting.decoded == 1


@pytest.mark.parametrize(("generation", "message"), [KINDS[0], KINDS[3]])
def test_what_is_expected_is_not_unpacked_at_all(generation, message):
    counting = Counting(generation)
    repeats = PrefixCache(counting)
    receiver = object()
    repeats.expect(ID, receiver)
    for text in ("first", "second"):
        assert repeats.decode(msgpack.packb(message(text))) == (receiver, Event.Message, text)
    assert counting.decoded == 0
    repeats.forget(ID)
    for text in ("third", "fourth"):
        assert repeats.decode(msgpack.packb(message(text))) == (ID, Event.Message, text)
    assert counting.decoded == 1


def test_what_is_forgotten_is_not_held():
    repeats = PrefixCache(INSTANCE)
    receiver = EventQueue()
    references = sys.getrefcount(receiver)
    repeats.expect(ID, receiver)
    assert sys.getrefcount(receiver) > references
    repeats.forget(ID)
    repeats.forget("never expected")
    assert sys.getrefcount(receiver) == references
    repeats.expect(ID, receiver)
    repeats.clear()
    assert sys.getrefcount(receiver) == references


@pytest.mark.parametrize("generation", [INSTANCE, PROCESS])
def test_nothing_of_an_instance_is_remembered_when_it_is_forgotten(generation):
    repeats = PrefixCache(generation)
    for number in range(10):
        repeats.expect(f"instance {number}", "its receiver")
        for of, message in KINDS:
            if of is generation:
                fields = {**message("text")}
                fields["instance_id" if of is INSTANCE else "process_id"] = f"instance {number}"
                repeats.decode(msgpack.packb(fields))
        repeats.forget(f"instance {number}")
    assert repeats._known == {}


@pytest.mark.parametrize("bad", ["\ud800", "x" * 1024, 7, b"bytes", ["a", ["list"]], None, {}])
def test_ids_that_can_be_none(bad):
    """An attach may be for anything that a caller gives, and an event of anything that a server sends."""
    repeats = PrefixCache(INSTANCE)
    if isinstance(bad, str):
        repeats.expect(bad, "its receiver")
        repeats.forget(bad)
    if bad != "\ud800":
        message = {"type": "instance_event", "instance_id": bad, "event": 0, "message": "text"}
        for _ in range(3):
            assert repeats.decode(msgpack.packb(message)) == (bad, Event.Message, "text")
    assert repeats._known == {}


def test_none_of_too_many_is_held_when_all_are_forgotten(monkeypatch):
    monkeypatch.setattr("pie_sync._protocol.prefix_cache._MAX_KNOWN", 100)
    repeats = PrefixCache(INSTANCE)
    receiver = EventQueue()
    references = sys.getrefcount(receiver)
    for number in range(350):
        repeats.expect(str(number), receiver)
    for number in range(350):
        repeats.forget(str(number))
    assert sys.getrefcount(receiver) == references


def test_ends_are_always_unpacked():
    for event in (event for event in Event if event.terminal):
        assert INSTANCE.before_text(ID, event) is None
        assert PROCESS.before_text(ID, event) is None


def test_a_server_that_puts_its_fields_in_another_order_is_understood_without():
    counting = Counting(INSTANCE)
    repeats = PrefixCache(counting)
    for number in range(300):
        message = {"message": str(number), "event": 0, "type": "instance_event", "instance_id": ID}
        assert repeats.decode(msgpack.packb(message)) == (ID, Event.Message, str(number))
        repeats.expect(f"another {number}", "its receiver")
    assert counting.decoded == 300
    # And costs nothing more, after a while.
    assert repeats._known == {}
    assert repeats._lengths == ()


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr("pie_sync._protocol.prefix_cache._MAX_KNOWN", 100)
    repeats = PrefixCache(INSTANCE)
    for number in range(1000):
        for size in (1, 50):  # of the id
            message = {"type": "instance_event", "instance_id": f"{number:0{size}}", "event": 0, "message": "text"}
            assert repeats.decode(msgpack.packb(message))[1:] == (Event.Message, "text")
        repeats.expect(f"{number:0900}", "its receiver")
        repeats.expect(f"{number:01000}", "its receiver")
        assert len(repeats._known) <= 100
        assert max(map(len, repeats._known)) < 1024
        assert len(repeats._lengths) <= 4
