"""The threads that wait for a queue, and how they are woken."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Waiters"]


class Waiters:
    """Waits for a condition that other threads make true. Thread-safe, and safe when a signal handler raises.

    Each waiting thread has a lock of its own, which is released to wake it. ``threading.Condition`` does the
    same, at the same speed (measured: 15 us for an event that is waited for, 0.95 to 1.0 of the time with 32
    consumers). But its ``wait`` gives a lock back and takes it again, and an exception that a signal handler
    raises between the two leaves that lock in a state which nobody expects.

    Args:
        mutex: the lock under which the condition is made true (:mod:`pie_sync._support.atomic` says when without).

    Attributes:
        waiting: the locks of the threads that wait, or that were woken just now. To be looked at only.
    """

    __slots__ = ("_in_line", "_mutex", "waiting")

    def __init__(self, mutex: threading.Lock) -> None:
        self.waiting: set[threading.Lock] = set()
        self._mutex = mutex
        # Those of them that nobody has woken yet, the oldest first.
        self._in_line: deque[threading.Lock] = deque()

    def notify(self, count: int) -> None:
        """Wake ``count`` threads, and one more: a signal may have called one of them away."""
        for _ in range(min(count + 1, len(self._in_line))):
            try:
                self._in_line.popleft().release()
            except IndexError:  # another thread has notified, too
                return

    def wait(self, seconds: float, is_ready: Callable[[], object]) -> None:
        """Wait until notified, or for so many seconds (-1 is without limit). Not at all if ``is_ready()``.

        Another thread makes the condition true first and notifies then. A waiting thread gets in line first and
        looks then, so that it either sees the condition or is seen. It looks under the mutex: see
        :mod:`pie_sync._support.atomic`.
        """
        own = threading.Lock()
        own.acquire()
        try:
            self.waiting.add(own)
            self._in_line.append(own)
            with self._mutex:
                ready = is_ready()
            if not ready:
                own.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
        except BaseException:
            self.notify(0)  # this thread may have been woken for an event that it does not take: wake another one
            raise
        finally:
            self.waiting.discard(own)
            try:
                self._in_line.remove(own)
            except ValueError:
                pass  # it was notified
