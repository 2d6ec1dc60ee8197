"""One request on its way, between the thread that waits for it and the reader thread that finishes it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable

from .._support.time_limits import remaining

if TYPE_CHECKING:
    from .._protocol.messages import Answer, InstanceList

__all__ = ["Call"]


class Call:
    """One request that waits for its answer. The reader thread finishes it, once.

    Args:
        name: the client's method, for error messages.
        kinds: the types of messages that may answer it.
        on_granted: called by the reader thread with a positive answer, before the caller wakes up and before
            any later message is looked at: so an instance has its queue before its first event.
    """

    __slots__ = ("_unfinished", "answer", "error", "kinds", "name", "on_granted")

    def __init__(
        self, name: str, kinds: tuple[str, ...], on_granted: Callable[[Answer], None] | None = None
    ) -> None:
        self.name = name
        self.kinds = kinds
        self.on_granted = on_granted
        self.answer: Answer | InstanceList | None = None
        self.error: Exception | None = None
        # A lock that is released when the call is finished: a third of the cost of a threading.Event.
        self._unfinished = threading.Lock()
        self._unfinished.acquire()

    @property
    def finished(self) -> bool:
        """Whether there is an answer, or an error."""
        return not self._unfinished.locked()

    def finish(self, answer: Answer | InstanceList | None, error: Exception | None = None) -> None:
        """Wake the caller. The first time counts: a call may be known under several correlation ids."""
        if self.answer is None and self.error is None:
            self.answer, self.error = answer, error
            self._unfinished.release()

    def wait(self, deadline: float | None) -> bool:
        """Block until the call is finished, or the deadline; say which."""
        if not self._unfinished.acquire(timeout=remaining(deadline)):
            return False
        self._unfinished.release()
        return True

    def result(self) -> Answer | InstanceList:
        """Return the answer of a finished call.

        Raises:
            PieConnectionError: the connection was lost before the answer came.
            ProtocolError: the answer makes no sense.
        """
        if self.error is not None:
            raise self.error
        assert self.answer is not None
        return self.answer
