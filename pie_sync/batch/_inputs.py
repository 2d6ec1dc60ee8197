"""Takes the inputs of a batch, as far as they are needed. Nothing here knows servers or executors."""

from __future__ import annotations

import threading
from collections import deque
from contextvars import copy_context
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._support.signal_handlers import is_from_signal_handler, start_thread
from .._support.signal_safe_queue import SignalSafeQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Inputs", "ThreadedInputs"]

#: For how many seconds inputs wait for others that would fill their shard, while workers are idle.
_PATIENCE = 0.1

#: For how many seconds at the most stop() waits for an iterator of the user's that is at work.
_STOP_TIMEOUT = 1.0


class Inputs:
    """The inputs of one batch, taken in the thread that calls :meth:`take`.

    Args:
        inputs: an iterator.

    Attributes:
        error: what the iterator raised in place of its next input; None if it has not failed.
    """

    def __init__(self, inputs: Iterator[Any]) -> None:
        self._iterator = inputs
        # Taken, and in no shard yet; and since when the first of them waits.
        self._filled: deque[Any] = deque()
        self._since: float | None = None
        self._has_ended = False
        self.error: BaseException | None = None

    @property
    def is_exhausted(self) -> bool:
        """Whether all inputs were handed over."""
        # In this order, since a thread fills it.
        return self._has_ended and not self._filled

    def take(self, count: int, *, hurry: bool) -> list[Any]:
        """Return the next ``count`` inputs; fewer at the end of all; none if so many are not there yet.

        With ``hurry``, return fewer as well if the first of them has waited for 0.1 s. Blocks for as long as the
        iterator does for one input; beyond that, for up to 0.1 s.
        """
        self._fill(count)
        has_ended = self._has_ended
        there = len(self._filled)
        if there and self._since is None:
            self._since = monotonic()
        is_late = self._since is not None and monotonic() - self._since >= _PATIENCE
        if there < count and not has_ended and not (hurry and is_late):
            return []
        self._since = None
        return [self._filled.popleft() for _ in range(min(there, count))]

    def stop(self) -> None:
        """Take no more."""
        self._has_ended = True

    def abandon(self) -> None:
        """Take no more. Safe in a finalizer: takes no lock, and does not wait."""
        self._has_ended = True

    def _fill(self, count: int) -> None:
        begin = monotonic()
        if self._since is None:
            self._since = begin  # before the first input is waited for
        while len(self._filled) < count and not self._has_ended:
            self._take_one()
            if monotonic() - begin >= _PATIENCE:
                return

    def _take_one(self) -> None:
        try:
            self._filled.append(next(self._iterator))
        except StopIteration:
            self._has_ended = True
        except Exception as error:
            if is_from_signal_handler(error):
                raise
            self.error = error
            self._has_ended = True


class ThreadedInputs(Inputs):
    """The inputs of one batch, taken in a daemon thread of their own, for iterators that may wait.

    The thread takes as many as the shard that was last asked for, no more. It runs in a copy of the context
    (``contextvars``) of the thread that asks first.

    Args:
        inputs: an iterator.
        wake: called in the thread when the shard is full, or the inputs have ended.
    """

    def __init__(self, inputs: Iterator[Any], wake: Callable[[], None]) -> None:
        super().__init__(inputs)
        self._wake = wake
        self._thread: threading.Thread | None = None
        self._handed_over = 0
        self._asked = 0
        # How many inputs the thread shall have taken altogether; -1 ends it.
        self._goals: SignalSafeQueue[int] = SignalSafeQueue()

    def take(self, count: int, *, hurry: bool) -> list[Any]:
        """See :meth:`Inputs.take`. Never blocks."""
        taken = super().take(count, hurry=hurry)
        self._handed_over += len(taken)
        return taken

    def stop(self) -> None:
        """Take no more. Blocks for up to 1 s while the iterator is at work."""
        self.abandon()
        if self._thread is not None:
            self._thread.join(_STOP_TIMEOUT)

    def abandon(self) -> None:
        """Take no more. Safe in a finalizer: takes no lock, and does not wait."""
        super().abandon()
        self._goals.put(-1)

    def _fill(self, count: int) -> None:
        goal = self._handed_over + count
        if goal <= self._asked or self._has_ended:
            return
        self._asked = goal
        self._goals.put(goal)
        if self._thread is None:
            context = copy_context()
            self._thread = threading.Thread(
                target=context.run, args=(self._run,), name="pie-sync-inputs", daemon=True
            )
            start_thread(self._thread)

    def _run(self) -> None:
        taken = 0
        while not self._has_ended:
            goal = self._goals.get()
            while taken < goal and not self._has_ended:
                try:
                    self._take_one()
                except BaseException as error:  # raised in the thread of the batch
                    self.error = error
                    self._has_ended = True
                taken += 1
            self._wake()
