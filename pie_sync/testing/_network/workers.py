"""Threads for functions that may block."""

from __future__ import annotations

import queue
import threading
import time
from typing import Callable

__all__ = ["Workers"]

MAX_IDLE = 64

Job = tuple[Callable[[], object], str]


class Workers:
    """Runs each function at once in a daemon thread of its own; safe to use from any thread.

    A thread that has done its work waits for the next function, since starting one is dear: with a new thread for
    each, 2 500 short instances a second were measured, with waiting threads 7 000.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._idle = 0
        self._threads: list[threading.Thread] = []
        self._prune_at = 2 * MAX_IDLE
        self._closed = False
        # Guards the four above. There are never fewer idle threads than jobs in the queue.
        self._lock = threading.Lock()

    def run(self, function: Callable[[], object], name: str) -> None:
        """Call ``function`` in a thread, named ``name`` for the time being.

        Raises:
            RuntimeError: the system can't start another thread, or :meth:`close` was called.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("closed")
            if self._idle:
                self._idle -= 1
                self._jobs.put((function, name))
                return
            if len(self._threads) >= self._prune_at:
                # Threads don't take themselves off the list when they end: one that had done so would still
                # be running for a moment, unknown to close(). Doubling keeps the cost per thread constant.
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                self._prune_at = 2 * (len(self._threads) + MAX_IDLE)
            thread = threading.Thread(target=self._work, args=((function, name),), daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self, deadline: float) -> bool:
        """Run nothing more, and wait until ``time.monotonic()`` is ``deadline`` for what runs.

        Returns:
            Whether all threads have ended. The calling one, should it be of these, is not waited for.
        """
        with self._lock:
            self._closed = True
            threads = [thread for thread in self._threads if thread is not threading.current_thread()]
            for _ in range(self._idle):
                self._jobs.put(None)
            self._idle = 0
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in threads)

    def _work(self, first: Job) -> None:
        job: Job | None = first
        while job is not None:
            threading.current_thread().name = job[1]
            job[0]()
            del job  # or it would live as long as this thread waits for the next one
            with self._lock:
                if self._closed or self._idle >= MAX_IDLE:
                    return
                self._idle += 1
            job = self._jobs.get()
