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
    :mod:`pie_sync._support.atomic` says why no item is missed.
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
        self.wake()

    def put_without_waking(self, item: T) -> None:
        """Append an item; :meth:`wake` has to follow."""
        self._items.append(item)

    def wake(self) -> None:
        """Let the consumer look for items. Thread-safe; never waits."""
        if self._waiter.locked():  # as a rule it is not, when many items come at once: the exception takes 0.5 us
            try:
                self._waiter.release()
            except RuntimeError:
                pass  # it is released already: the consumer will look again

    def __len__(self) -> int:
        """Return how many items there are. Never waits."""
        return len(self._items)

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

    def get_all(self, timeout: float | None = None) -> list[T]:
        """Remove and return all items, in order. Blocks until there is one; none if there was none in time.

        Only one thread may call this. If a signal handler raises in it, items may be lost.
        """
        items: list[T] = []
        if not self._items:
            if timeout == 0:
                return items
            try:
                items.append(self.get(timeout))
            except queue.Empty:
                return items
        popleft = self._items.popleft
        items.extend(popleft() for _ in range(len(self._items)))
        return items
