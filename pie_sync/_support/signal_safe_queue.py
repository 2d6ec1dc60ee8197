"""Single-consumer queue whose get() keeps its timeout even when signals arrive."""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Generic, TypeVar

from .time_limits import deadline_after, remaining

__all__ = ["SignalSafeQueue"]

T = TypeVar("T")


class SignalSafeQueue(Generic[T]):
    """Queue for one consumer. Its timeout holds even when signals arrive, and a signal never leaves it locked.

    The queues of the standard library don't have that. ``SimpleQueue.get`` waits for ever if its time is over when
    a signal handler returns (CPython up to 3.12). An exception of a signal handler can leave a ``Queue`` locked:
    then the next ``put``, in the reader thread, would never return.
    """

    __slots__ = ("_bell", "_items")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        # Locked, unless something was put since the consumer last waited.
        self._bell = threading.Lock()
        self._bell.acquire()

    def put(self, item: T) -> None:
        """Append an item. Thread-safe; never waits."""
        self._items.append(item)
        try:
            self._bell.release()
        except RuntimeError:
            pass  # it has been rung already

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
            if not self._bell.acquire(timeout=remaining(deadline)):
                raise queue.Empty
