"""One request on its way, between the thread that waits for its answer and the reader thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable

from .._support.time_limits import remaining

if TYPE_CHECKING:
    from .._protocol.messages import Answer, InstanceList
    from ..events import Event

__all__ = ["PendingRequest"]


class PendingRequest:
    """A request that waits for its answer. The reader thread settles it, once.

    Args:
        name: the client's method, for error messages.
        kinds: the types of messages that may answer it.
        on_success: called by the reader thread with a positive answer, before the caller wakes up and before
            any later message is looked at: so an instance has its queue before its first event. (Only for a
            request that :attr:`takes_end` messages of others may have been looked at before.)
        on_settled: called once by the thread that settles the request, as a rule the reader thread, right after
            that, and before the caller is woken. Must not wait.
        is_probe: whether no thread waits for it, and every server understands it.

    Attributes:
        takes_end: whether :meth:`on_end` may be called instead of ``on_success``.
        corr_ids: the correlation ids under which it can be answered. Only :class:`PendingRequests` adds some.
        is_sent: whether the server may have the request, or a part of it. Only for one with ``on_success``.
    """

    __slots__ = (
        "_unsettled",
        "answer",
        "corr_ids",
        "error",
        "is_probe",
        "is_sent",
        "kinds",
        "name",
        "on_settled",
        "on_success",
    )

    takes_end: bool = False

    def __init__(
        self,
        name: str,
        kinds: tuple[str, ...],
        on_success: Callable[[Answer], None] | None = None,
        on_settled: Callable[[], None] | None = None,
        *,
        is_probe: bool = False,
    ) -> None:
        self.name = name
        self.kinds = kinds
        self.on_success = on_success
        self.on_settled = on_settled
        self.is_probe = is_probe
        self.corr_ids: tuple[int, ...] = ()
        self.is_sent = False
        self.answer: Answer | InstanceList | None = None
        self.error: Exception | None = None
        # A lock that is released when the request is settled: a third of the cost of a threading.Event.
        self._unsettled = threading.Lock()
        self._unsettled.acquire()

    def on_end(self, answer: Answer, events: list[tuple[Event, str]]) -> None:
        """Take a positive answer together with all that the instance has sent, the end included.

        Called by the reader thread instead of ``on_success``, where :attr:`takes_end`: what a short instance sends
        comes in the same read as the answer to its launch, and needs no queue.
        """
        raise NotImplementedError

    def mark_as_sent(self) -> None:
        """Note that the server may have it. Called right before its first byte is written."""
        self.is_sent = True

    @property
    def settled(self) -> bool:
        """Whether there is an answer, or an error."""
        return self.answer is not None or self.error is not None

    def settle(self, answer: Answer | InstanceList | None, error: Exception | None = None) -> bool:
        """Set the outcome; :meth:`wake` has to follow. Only the first call counts: there may be several answers.

        Returns:
            Whether it was the first one: a request may have several correlation ids.
        """
        if self.answer is not None or self.error is not None:
            return False
        self.answer, self.error = answer, error
        if self.on_settled is not None:
            self.on_settled()
        return True

    def wake(self) -> None:
        """Wake the caller. Once, behind :meth:`settle`."""
        self._unsettled.release()

    def wait(self, deadline: float | None) -> bool:
        """Block until the request is settled, or the deadline. Return whether it is settled."""
        if not self._unsettled.acquire(timeout=remaining(deadline)):
            return False
        self._unsettled.release()
        return True

    def result(self) -> Answer | InstanceList:
        """Return the answer of a settled request.

        Raises:
            PieConnectionError: the connection was lost before the answer came.
            ProtocolError: the answer makes no sense.
        """
        if self.error is not None:
            raise self.error
        assert self.answer is not None
        return self.answer
