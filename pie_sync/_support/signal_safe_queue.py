"""A single-consumer queue whose ``get`` keeps its timeout even when signals arrive."""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Generic, TypeVar

from .time_limits import deadline_after, remaining

__all__ = ["SignalSafeQueue"]

T = TypeVar("T")


class SignalSafeQueue(Generic[T]):
    """A queue for one consumer, whose ``get`` keeps its timeout even when signals arrive.

    Neither queue of the standard library does. ``SimpleQueue.get`` waits for ever if its time is over when the
    signal's handler returns (CPython up to 3.12). And Ctrl-C in the wrong instant leaves a ``Queue`` locked: the
    next ``put``, in the reader thread, never returns. :mod:`pie_sync._support.atomic` says why no item is missed.
    """

    __slots__ = ("_items", "_waiter")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        # Acquired by the consumer to wait; released by whoever puts something.
        self._waiter = threading.Lock()
        self._waiter.acquire()

    def put(self, item: T) -> None:
        """Append an item. Thread-safe; never waits."""
        self._items.append(item)
        try:
            self._waiter.release()
        except RuntimeError:
            pass  # it is released already: the consumer will look again

    def get(self, timeout: float | None = None) -> T:
        """Remove and return the next item. Blocks until there is one. Only one thread may call this.

        Args:
            timeout: for how many seconds to wait at most; None is without limit.

        Raises:
            queue.Empty: there was none in time.
        """
        deadline = deadline_after(timeout)
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                pass
            if not self._waiter.acquire(timeout=remaining(deadline)):
                raise queue.Empty
