"""Inputs are taken as they are needed, also in a thread of their own."""

from __future__ import annotations

import contextvars
import itertools
import threading

import pytest

from pie_sync.batch._inputs import Inputs, ThreadedInputs


def until_woken(inputs, woken, count, **how):
    """Take a shard, and wait for it if need be."""
    while not (taken := inputs.take(count, **how)) and not inputs.is_exhausted:
        assert woken.wait(30)
        woken.clear()
    return taken


@pytest.fixture
def woken():
    return threading.Event()


@pytest.fixture(params=["here", "in a thread"])
def make(request, woken):
    made = []

    def make(iterable):
        iterator = iter(iterable)
        made.append(Inputs(iterator) if request.param == "here" else ThreadedInputs(iterator, woken.set))
        return made[-1]

    yield make
    for inputs in made:
        inputs.stop()


def test_full_shards_and_the_rest(make, woken):
    inputs = make(range(25))
    assert [until_woken(inputs, woken, 10, hurry=False) for _ in range(4)] == [
        list(range(10)),
        list(range(10, 20)),
        list(range(20, 25)),
        [],
    ]
    assert inputs.is_exhausted
    assert inputs.error is None


def test_an_error_comes_behind_what_was_there(make, woken):
    def fail():
        yield from range(3)
        raise LookupError("lost")

    inputs = make(fail())
    assert until_woken(inputs, woken, 10, hurry=False) == [0, 1, 2]
    assert inputs.is_exhausted
    assert repr(inputs.error) == "LookupError('lost')"


def test_no_more_is_taken_than_was_asked_for(make, woken):
    counter = itertools.count()
    inputs = make(counter)
    for _ in range(3):
        until_woken(inputs, woken, 7, hurry=False)
    inputs.stop()
    assert next(counter) == 21


def test_with_hurry_a_slow_input_does_not_hold_up_the_others():
    go_on, asked = threading.Event(), threading.Event()

    def slow():
        yield from "ab"
        asked.set()
        go_on.wait(30)
        yield "c"

    inputs = ThreadedInputs(slow(), lambda: None)
    assert inputs.take(10, hurry=False) == []
    assert asked.wait(30)
    assert inputs.take(10, hurry=False) == []
    taken = []
    while not taken:
        taken = inputs.take(10, hurry=True)
    assert taken == ["a", "b"]
    assert not go_on.is_set()
    go_on.set()
    inputs.stop()


def test_an_iterator_that_is_slow_here_hands_over_a_part():
    ticks = threading.Event()
    inputs = Inputs(number for number in itertools.count() if not ticks.wait(0.01))
    assert 0 < len(inputs.take(10_000, hurry=True)) < 10_000
    assert inputs.take(10_000, hurry=False) == []


def test_the_thread_ends_with_the_batch():
    inputs = ThreadedInputs(iter(range(5)), lambda: None)
    inputs.take(1, hurry=False)
    inputs.stop()
    assert inputs._thread is not None
    assert not inputs._thread.is_alive()
    ThreadedInputs(iter([]), lambda: None).stop()  # that was never begun


def test_stop_does_not_wait_for_ever_for_an_iterator():
    go_on, asked = threading.Event(), threading.Event()

    def stuck():
        asked.set()
        yield go_on.wait(30)

    inputs = ThreadedInputs(stuck(), lambda: None)
    inputs.take(1, hurry=False)
    assert asked.wait(30)
    inputs.stop()
    assert not go_on.is_set()
    go_on.set()
    inputs._thread.join(30)
    assert not inputs._thread.is_alive()


def test_what_ends_a_thread_is_raised_in_the_batch(woken):
    def leave():
        raise SystemExit(3)
        yield

    inputs = ThreadedInputs(leave(), woken.set)
    assert until_woken(inputs, woken, 1, hurry=False) == []
    assert isinstance(inputs.error, SystemExit)


def test_the_context_of_the_caller(woken):
    variable = contextvars.ContextVar("variable")
    variable.set("seen")
    inputs = ThreadedInputs((variable.get() for _ in range(1)), woken.set)
    assert until_woken(inputs, woken, 1, hurry=False) == ["seen"]
    inputs.stop()
