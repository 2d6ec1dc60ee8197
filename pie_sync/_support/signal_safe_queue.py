"""What other threads hand over to one that waits."""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Generic, TypeVar

from .time_limits import deadline_after, remaining

__all__ = ["SignalSafeQueue"]

T = TypeVar("T")


class SignalSafeQueue(Generic[T]):
    """A queue for one consumer, with a time limit that holds also when signals are handled meanwhile.

    Neither of the standard library's does for that. ``SimpleQueue.get`` waits for ever if its time is over when
    the signal's handler returns (CPython up to 3.12). And Ctrl-C in the wrong instant leaves a ``Queue`` locked:
    then the next ``put``, in the reader thread, never returns.
    """

    __slots__ = ("_bell", "_items")

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        # Locked, unless something was put since the consumer last waited.
        self._bell = threading.Lock()
        self._bell.acquire()

    def put(self, item: T) -> None:
        """Hand an item over. From any thread; never waits."""
        self._items.append(item)
        try:
            self._bell.release()
        except RuntimeError:
            pass  # it has been rung already

    def get(self, timeout: float | None = None) -> T:
        """Take the next item.

        Args:
            timeout: for how many seconds to wait for one if there is none; None is without limit.

        Raises:
            queue.Empty: none came in time.
        """
        deadline = deadline_after(timeout)
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                pass
            if not self._bell.acquire(timeout=remaining(deadline)):
                raise queue.Empty
