"""The queue that ``map`` waits at: nothing is missed, and its timeout holds while signals arrive."""

from __future__ import annotations

import queue
import signal
import sys
import threading
import time

import pytest

from pie_sync._support.signal_safe_queue import SignalSafeQueue


def test_in_order():
    items: SignalSafeQueue[int] = SignalSafeQueue()
    for number in range(3):
        items.put(number)
    assert [items.get(0) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(queue.Empty):
        items.get(0)
    with pytest.raises(queue.Empty):
        items.get(0.01)


def test_nothing_is_missed_with_threads_that_switch_all_the_time():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        items: SignalSafeQueue[int] = SignalSafeQueue()
        total, producers = 3000, 3
        threads = [
            threading.Thread(target=lambda: [items.put(number) for number in range(total)])
            for _ in range(producers)
        ]
        for thread in threads:
            thread.start()
        received = [items.get(20) for _ in range(producers * total)]
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert sorted(received) == sorted(list(range(total)) * producers)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signal.setitimer")
def test_the_timeout_holds_while_signals_arrive():
    items: SignalSafeQueue[int] = SignalSafeQueue()
    handled = []
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    begin = time.monotonic()
    try:
        with pytest.raises(queue.Empty):
            items.get(0.3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert 0.25 < time.monotonic() - begin < 3
    assert len(handled) > 3


def test_all_at_once():
    items: SignalSafeQueue[int] = SignalSafeQueue()
    assert items.get_all(0) == items.get_all(0.01) == []
    for number in range(3):
        items.put(number)
    assert len(items) == 3
    assert items.get_all(0) == [0, 1, 2]
    assert len(items) == 0


def test_all_of_them_are_waited_for_and_come_with_one_wake_up():
    items: SignalSafeQueue[int] = SignalSafeQueue()

    def put() -> None:
        for number in range(3):
            items.put_without_waking(number)
        items.wake()
        items.wake()

    thread = threading.Timer(0.05, put)
    thread.start()
    assert items.get_all(20) == [0, 1, 2]
    thread.join()
