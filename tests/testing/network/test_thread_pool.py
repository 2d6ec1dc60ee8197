"""The pool of threads: reuse, names, limits, and closing."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from pie_sync.testing._network import thread_pool as _thread_pool
from pie_sync.testing._network.thread_pool import ThreadPool
from tests.testing.raw import PATIENCE


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    pool = ThreadPool()
    yield pool
    assert pool.close(time.monotonic() + PATIENCE)


def run_together(pool: ThreadPool, count: int) -> list[threading.Thread]:
    """Run so many functions at the same time, and return their threads, in which none runs any more."""
    threads: list[threading.Thread] = []
    barrier = threading.Barrier(count + 1)

    def meet() -> None:
        threads.append(threading.current_thread())
        barrier.wait(PATIENCE)

    for number in range(count):
        pool.run(meet, f"meet-{number}")
    barrier.wait(PATIENCE)
    return threads


def test_functions_run_at_the_same_time_in_threads_with_their_names(pool: ThreadPool) -> None:
    threads = run_together(pool, 200)
    assert len(set(threads)) == 200
    assert all(thread.daemon for thread in threads)
    names: list[str] = []
    done = threading.Event()

    def note() -> None:
        names.append(threading.current_thread().name)
        done.set()

    pool.run(note, "a name")
    assert done.wait(PATIENCE)
    assert names == ["a name"]


def test_threads_are_used_again(pool: ThreadPool) -> None:
    used: set[threading.Thread] = set()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        (thread,) = run_together(pool, 1)
        if thread in used:
            return
        used.add(thread)
    raise AssertionError("each function got a new thread")


def test_only_so_many_idle_threads_are_kept(pool: ThreadPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_thread_pool, "MAX_IDLE", 3)
    threads = run_together(pool, 20)
    deadline = time.monotonic() + PATIENCE
    while sum(thread.is_alive() for thread in threads) > 3:
        assert time.monotonic() < deadline
    assert pool.close(time.monotonic() + PATIENCE)
    assert not any(thread.is_alive() for thread in threads)


def test_threads_that_have_ended_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_thread_pool, "MAX_IDLE", 0)
    pool = ThreadPool()
    seen: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
    for _ in range(50):
        for thread in run_together(pool, 4):
            seen.add(thread)
            thread.join(PATIENCE)
        del thread
    gc.collect()
    assert len(seen) <= 16  # of 200
    assert pool.close(time.monotonic() + PATIENCE)


def test_a_function_that_has_run_is_not_kept_alive(pool: ThreadPool) -> None:
    class Function:
        def __call__(self) -> None:
            done.set()

    done = threading.Event()
    function = Function()
    gone = threading.Event()
    weakref.finalize(function, gone.set)
    pool.run(function, "once")
    assert done.wait(PATIENCE)
    del function
    assert gone.wait(PATIENCE)


def test_close_waits_for_what_runs_until_its_deadline() -> None:
    pool = ThreadPool()
    started, go = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        go.wait(PATIENCE)

    pool.run(wait, "waiting")
    assert started.wait(PATIENCE)
    assert not pool.close(time.monotonic() + 0.05)
    with pytest.raises(RuntimeError, match="closed"):
        pool.run(wait, "too late")
    go.set()
    assert pool.close(time.monotonic() + PATIENCE)


def test_a_function_may_close_its_pool() -> None:
    pool = ThreadPool()
    results: list[bool] = []
    done = threading.Event()

    def close() -> None:
        results.append(pool.close(time.monotonic() + PATIENCE))
        done.set()

    pool.run(close, "closer")
    assert done.wait(PATIENCE)
    assert results == [True]
    assert pool.close(time.monotonic() + PATIENCE)
