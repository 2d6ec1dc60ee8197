"""Threads that wait for a condition: woken once for each event, whatever signals do, and never overlooked."""

from __future__ import annotations

import queue
import sys
import threading
from collections import deque

import pytest

from pie_sync import Event
from pie_sync._session import event_queue
from pie_sync._session.event_queue import EventQueue
from pie_sync._session.waiters import Waiters


class Told(Exception):
    """What a signal handler raises."""


def test_not_at_all_if_the_condition_holds_already():
    waiters = Waiters(threading.Lock())
    waiters.wait(-1, lambda: True)
    assert not waiters.waiting
    assert not waiters._in_line


def test_no_longer_than_it_may():
    waiters = Waiters(threading.Lock())
    waiters.wait(0.01, lambda: False)
    assert not waiters.waiting
    assert not waiters._in_line


def test_the_condition_is_looked_at_under_the_mutex():
    """So whoever makes it true under the mutex either comes before the look, or sees who waits."""
    mutex = threading.Lock()
    waiters = Waiters(mutex)
    looks = []

    def look():
        looks.append((mutex.locked(), len(waiters.waiting), len(waiters._in_line)))
        return True

    waiters.wait(-1, look)
    assert looks == [(True, 1, 1)]
    assert not mutex.locked()


def test_what_a_signal_handler_raises_leaves_nobody_in_line_and_wakes_another():
    mutex = threading.Lock()
    waiters = Waiters(mutex)
    ready: list[bool] = []
    woken = threading.Event()

    def wait():
        waiters.wait(20, lambda: ready)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    while not waiters._in_line:
        pass

    def interrupted():
        raise Told

    with pytest.raises(Told):
        waiters.wait(-1, interrupted)
    assert woken.wait(10), "the one that was called away may have been woken for an event"
    thread.join()
    assert not mutex.locked()
    assert not waiters.waiting
    assert not waiters._in_line


def test_one_more_is_woken_than_there_are_events():
    waiters = Waiters(threading.Lock())
    woken: deque[int] = deque()
    threads = [
        threading.Thread(target=lambda number=number: (waiters.wait(20, lambda: False), woken.append(number)))
        for number in range(4)
    ]
    for count, thread in enumerate(threads):
        thread.start()
        while len(waiters._in_line) <= count:
            pass
    waiters.notify(1)
    for thread in threads[:2]:
        thread.join(10)
    assert sorted(woken) == [0, 1]
    waiters.notify(2)
    for thread in threads:
        thread.join(10)
    assert sorted(woken) == [0, 1, 2, 3]


@pytest.fixture
def tiny_switch_interval():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("has_interpreter_lock", [True, False])
@pytest.mark.usefixtures("tiny_switch_interval")
def test_no_wake_up_is_lost(monkeypatch, has_interpreter_lock):
    """Each event is put when the consumer is about to wait, or waits: on the fast path, where there is one."""
    monkeypatch.setattr(event_queue, "HAS_INTERPRETER_LOCK", has_interpreter_lock)
    there, back = EventQueue(), EventQueue()
    assert there.fast_path is has_interpreter_lock
    total = 3000

    def put(events: EventQueue, text: str):
        if events.fast_path:  # as Router.dispatch() does
            events.queue.append(text)
            if events.waiting:
                events.notify()
        else:
            events.put_batch([(Event.Message, text)])

    def answer():
        for _ in range(total):
            put(back, there.get(timeout=20)[1])

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        for number in range(total):
            put(there, str(number))
            assert back.get(timeout=20) == (Event.Message, str(number))
    except queue.Empty:
        pytest.fail("a consumer sleeps beside its event")
    thread.join()
    assert there.fast_path is back.fast_path is has_interpreter_lock
