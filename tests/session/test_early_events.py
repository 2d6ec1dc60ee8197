"""Events that come before it is known whose they are: what is kept, and how much at the most."""

from __future__ import annotations

import pytest

from pie_sync import Event
from pie_sync._protocol.messages import BlobChunk
from pie_sync._session import early_events
from pie_sync._session.early_events import EarlyEvents

MIB = 1024 * 1024


def event(text: str, kind: Event = Event.Message, instance_id: str = "one"):
    return instance_id, kind, text


def add(early: EarlyEvents, *events) -> None:
    for decoded in events:
        early.add(decoded[0], decoded)


def held(early: EarlyEvents) -> int:
    """How many bytes of texts there are."""
    return sum(len(data) for events in early._events.values() for _, _, data in events)


def test_everything_is_there_once_in_order():
    early = EarlyEvents()
    chunk = BlobChunk("one", "ab" * 32, 0, 1, b"data")
    add(early, event("a"), event("x", instance_id="two"), event("b"), event("end", Event.Completed))
    early.add("two", chunk)
    assert early.take("one") == ([event("a"), event("b"), event("end", Event.Completed)], 0)
    assert early.take("one") == ([], 0)
    assert early.take("two") == ([event("x", instance_id="two"), chunk], 0)
    assert early._size == 0


def test_nothing_comes_behind_the_end():
    early = EarlyEvents()
    end = event("end", Event.Completed)
    add(early, event("a"), end, event("b"), event("another end", Event.Exception))
    assert early.take("one") == ([event("a"), end], 0)


def test_many_long_ends_are_bounded():
    early = EarlyEvents()
    text = "x" * MIB
    for number in range(100):
        add(early, event(text, Event.Completed, str(number)))
        add(early, event(text, Event.Completed, str(number)))
    assert held(early) <= early_events._LIMIT
    assert early.take("0") == ([event(text, Event.Completed, "0")], 0)
    assert early.take("99") == ([event("", Event.Completed, "99")], 1), "told as lost; but that it ended, is known"


@pytest.mark.parametrize("length", [0, 10, 1000])
def test_a_short_end_is_kept_whatever_there_is(length):
    early = EarlyEvents()
    add(early, *[event("x" * MIB)] * 20, event("y" * length, Event.Completed))
    events, lost = early.take("one")
    assert events[-1] == event("y" * length, Event.Completed)
    assert lost == 21 - len(events) > 0
    assert early._size == 0


def test_how_many_instances_there_are_is_bounded_by_the_same_limit():
    early = EarlyEvents()
    number = 0
    while early.take("nobody") == ([], 0):
        add(early, event("hello", instance_id=str(number)))
        number += 1
    assert number > 20_000
    assert early._size <= 2 * early_events._LIMIT
    assert early.take("0") == ([event("hello", instance_id="0")], 0)
    assert early.take(str(number - 1)) == ([], None), "nobody knows what came of it"
    add(early, event("hello", instance_id="another"))
    assert early.take("another") == ([], None), "there is room again; but perhaps this was not its first event"
    early.clear()
    assert early.take("another") == ([], 0)


def test_the_end_of_a_recorded_instance_is_never_lost():
    early = EarlyEvents()
    add(early, event("x", instance_id="first"))
    number = 0
    while early.take("nobody") == ([], 0):
        add(early, event("y" * 1000, Event.Completed, instance_id=str(number)))
        number += 1
    add(early, event("z" * 1000, Event.Completed, instance_id="first"))
    assert early.take("first") == ([event("x", instance_id="first"), event("", Event.Completed, "first")], 1)
    assert early._size <= 2 * early_events._LIMIT
    assert held(early) <= 2 * early_events._LIMIT


def test_what_is_taken_makes_room():
    early = EarlyEvents()
    for number in range(100):
        add(early, event("x" * 10, instance_id=str(number)), event("", Event.Completed, str(number)))
    for number in range(100):
        early.take(str(number))
    assert early._size == 0
