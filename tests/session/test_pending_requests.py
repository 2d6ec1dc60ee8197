"""A request must never be overlooked, whenever the connection is lost: its caller would wait for ever."""

from __future__ import annotations

import gc
import threading
from time import monotonic

import pytest

from pie_sync import PieConnectionError
from pie_sync._session.pending_request import PendingRequest
from pie_sync._session.pending_requests import PendingRequests

LOST = PieConnectionError("the connection is lost")


def call():
    return PendingRequest("ping", ("response",))


class LosesIt:
    """The lock of all requests; but the connection is lost right before it is acquired, or released."""

    def __init__(self, calls, *, before):
        self.calls, self.before = calls, before
        self.lock, calls._lock = calls._lock, self

    def lose(self):
        self.calls._lock = self.lock
        self.calls.fail_all(LOST)

    def __enter__(self):
        if self.before:
            self.lose()
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()
        if not self.before:
            self.lose()


@pytest.mark.parametrize("before", [True, False])
def test_lost_while_it_is_registered(before):
    calls = PendingRequests()
    LosesIt(calls, before=before)
    request = call()
    with pytest.raises(PieConnectionError, match="the connection is lost"):
        calls.add(request)
        assert request.wait(monotonic())
        request.result()
    assert len(calls) == 0


def test_lost_while_many_threads_register():
    for _ in range(20):
        calls = PendingRequests()
        registered: list[list[PendingRequest]] = [[] for _ in range(4)]
        under_way = threading.Barrier(5)

        def register(mine, calls=calls, under_way=under_way):
            with pytest.raises(PieConnectionError):
                while True:
                    mine.append(call())
                    calls.add(mine[-1])
                    if len(mine) == 1:
                        under_way.wait()

        threads = [threading.Thread(target=register, args=(mine,)) for mine in registered]
        for thread in threads:
            thread.start()
        under_way.wait()
        calls.fail_all(LOST)
        for thread in threads:
            thread.join()
        # The last one of each was refused by add().
        waiting = [one for mine in registered for one in mine[:-1]]
        assert all(one.wait(monotonic()) for one in waiting)
        assert len(calls) == 0


@pytest.mark.parametrize("what_comes", ["the end", "a message that makes no sense"])
def test_a_finalizer_that_gives_up_a_call_meanwhile(what_comes):
    """The garbage collector runs where it likes to, and in it whatever other threads do."""
    calls = PendingRequests()
    waiting = {calls.add(one): one for one in [call() for _ in range(50)]}
    given_up = []

    class Garbage:
        def __init__(self):
            self.me = self

        def __del__(self):
            if waiting:
                # From Python 3.12 on it also runs where this thread has the lock.
                if calls.is_usable_here():
                    given_up.append(waiting.popitem())
                    calls.remove(given_up[-1][1])
                Garbage()

    threshold = gc.get_threshold()
    kept = [(number, number) for number in range(1000)]  # so that no pair is taken from those that were freed
    Garbage()
    gc.set_threshold(1)
    try:
        if what_comes == "the end":
            calls.fail_all(LOST)
        else:
            calls.refuse("what?")
    finally:
        gc.set_threshold(*threshold)
        left, waiting = waiting, {}
        gc.collect()
    assert kept
    if what_comes == "the end":
        assert all(one.settled for one in left.values())
        assert len(calls) == 0


def test_every_thread_gets_ids_of_its_own():
    calls = PendingRequests()
    ids: list[list[int]] = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda mine=mine: mine.extend(calls.add(call()) for _ in range(5000)))
        for mine in ids
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for mine in ids for one in mine}) == len(calls) == 20_000
