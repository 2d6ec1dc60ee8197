"""The requests of one session that wait for their answers."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._protocol.messages import Answer
from .._support.kept_errors import copy_of_error
from ..errors import PieConnectionError, ProtocolError, RequestError
from .early_events import EarlyEvents

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._protocol.messages import InstanceList
    from ..events import Event
    from .pending_request import PendingRequest

__all__ = ["UNATTENDED", "PendingRequests"]

logger = logging.getLogger("pie_sync.protocol")


#: How many abandoned requests are remembered, in case their answers come after all.
_MAX_ABANDONED = 256

#: Correlation ids are unsigned integers of 32 bits.
_ID_LIMIT = 2**32

#: A correlation id for messages whose answers nobody waits for. No request gets it.
UNATTENDED = 2**31


class PendingRequests:
    """Finds the request that an answer belongs to, by its correlation id. Thread-safe.

    The reader thread hands in the answers; every other thread adds the requests that it waits for. What becomes of
    a request is logged at DEBUG, under its correlation id.

    Attributes:
        logs: whether answers are to be logged. The reader thread asks the logger once for all messages of a read.
        early: the events of instances whose ids are not known yet.
        answered: the requests that the messages of a read have answered; their callers have to be woken.
    """

    def __init__(self) -> None:
        self.logs = False
        self.answered: list[PendingRequest] = []
        # Guards everything below. One thing happens without it: the reader thread takes a request out of _pending,
        # which is one step. So it waits for this lock only for requests that bring an instance.
        self._lock = threading.Lock()
        self._next_id = 1
        self._pending: dict[int, PendingRequest] = {}
        self._abandoned: OrderedDict[int, PendingRequest] = OrderedDict()
        # The requests of both kinds that bring an instance. While there are any, events may come before the id of
        # their instance is known. A set, so that an interrupted call can't make a wrong count of them.
        self._expecting: set[PendingRequest] = set()
        self.early = EarlyEvents()
        self._lost: PieConnectionError | None = None

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._pending)

    # --- for the thread that waits ------------------------------------------------------------------------

    @contextmanager
    def waiting(self, request: PendingRequest) -> Iterator[int]:
        """Return a context that yields the correlation id under which ``request`` can be answered."""
        try:
            yield self.add(request)
        finally:
            self.remove(request)

    def add(self, request: PendingRequest) -> int:
        """Give a request a correlation id that no other pending request has, and return it.

        Call this inside the ``try`` whose ``finally`` calls :meth:`remove`: a signal handler may raise before the
        id is returned.

        Raises:
            PieConnectionError: the connection is lost.
        """
        with self._lock:
            return self._add(request)

    def add_all(self, requests: Iterable[PendingRequest]) -> None:
        """Give each of several requests a correlation id; see :meth:`add`."""
        with self._lock:
            for request in requests:
                self._add(request)

    def _add(self, request: PendingRequest) -> int:
        if self._lost is not None:
            raise copy_of_error(self._lost)
        corr_id = self._next_id
        while corr_id in self._pending or corr_id in self._abandoned or corr_id == UNATTENDED:
            corr_id = (corr_id + 1) % _ID_LIMIT
        self._next_id = (corr_id + 1) % _ID_LIMIT
        request.corr_ids += (corr_id,)  # first, so that remove() finds whatever was added
        self._pending[corr_id] = request
        if request.on_success is not None:
            self._expecting.add(request)
        return corr_id

    def remove(self, request: PendingRequest) -> None:
        """Stop waiting for an answer. Does nothing if the request was answered, or never added.

        If the server may have the request, an answer that comes later and is positive still makes an instance.
        """
        for corr_id in request.corr_ids:
            if corr_id in self._pending:  # else it was answered, which is the usual case
                self._remove(corr_id, request)

    def _remove(self, corr_id: int, request: PendingRequest) -> None:
        with self._lock:
            if self._pending.pop(corr_id, None) is None:
                return
            if request.on_success is not None and request.is_sent and self._lost is None:
                # An instance may come of it yet, and its events before the answer.
                self._abandoned[corr_id] = request
                if len(self._abandoned) > _MAX_ABANDONED:
                    self._settled(self._abandoned.popitem(last=False)[1])
            else:
                self._settled(request)
        logger.debug("request %d: %s is not waited for any more", corr_id, request.name)

    def is_usable_here(self) -> bool:
        """Whether this thread is outside of all these methods. Also False while another thread is inside.

        For finalizers, which run wherever the garbage collector happens to. Does not wait.
        """
        if not self._lock.acquire(blocking=False):
            return False
        self._lock.release()
        return True

    # --- for the reader thread ----------------------------------------------------------------------------

    def takes_end(self, corr_id: int) -> bool:
        """Whether the request with this correlation id takes its answer together with its instance's end."""
        request = self._pending.get(corr_id)
        return request is not None and request.takes_end

    def answer(self, answer: Answer | InstanceList, events: list[tuple[Event, str]] | None = None) -> None:
        """Settle the request that an answer belongs to, and append it to :attr:`answered`.

        Args:
            answer: the answer.
            events: all events of the instance that it brings, for a request that :meth:`takes_end`. Default: they
                are still to come.
        """
        corr_id = answer.corr_id
        request = self._pending.pop(corr_id, None)
        if request is None:
            with self._lock:  # remove() holds it until the request is among the abandoned
                request = self._abandoned.pop(corr_id, None)
        if request is None:
            # Expected: a failed upload is answered once for each of its chunks, and requests time out.
            logger.debug("request %d: ignored a %r message, which nobody waits for", corr_id, answer.kind)
            return
        try:
            if _settle(request, answer, events, self.logs):
                self.answered.append(request)
        except BaseException:
            # A defect of this library, which ends the reader thread: fail_all() tells the caller.
            self._pending[corr_id] = request
            raise
        if request.on_success is not None:
            # Only now: on_success() may need the early events.
            self._expecting.discard(request)
            if not self._expecting and not self.early.is_empty:
                with self._lock:
                    self._clear_early()

    def refuse(self, text: str) -> None:
        """Fail the only pending request: the server could not understand a message. Nothing if there are more.

        Probes don't count: every server understands them.
        """
        waiting = [(corr_id, request) for corr_id, request in self._pending.copy().items() if not request.is_probe]
        if len(waiting) == 1:
            corr_id, request = waiting[0]
            self.fail(corr_id, RequestError(request.name, text))

    def fail(self, corr_id: int, error: Exception) -> bool:
        """Settle the request with this correlation id by an error. Return whether there is one."""
        with self._lock:
            request = self._pending.pop(corr_id, None) or self._abandoned.pop(corr_id, None)
            if request is not None:
                self._settled(request)
        if request is None:
            return False
        logger.debug("request %d: %s failed: %s", corr_id, request.name, error)
        if request.settle(None, error):
            request.wake()
        return True

    def fail_all(self, error: PieConnectionError) -> None:
        """Settle all requests by an error, and refuse further ones: the connection is lost."""
        with self._lock:
            self._lost = error
            self._abandoned.clear()
            self._expecting.clear()
            self.early.clear()
        for corr_id, request in self._pending.copy().items():
            if self._pending.pop(corr_id, None) is None:
                continue  # nobody waits for it any more
            logger.debug("request %d: %s failed: %s", corr_id, request.name, error)
            if request.settle(None, copy_of_error(error)):
                request.wake()

    def keep_early(self, instance_id: str, decoded: Any) -> None:
        """Keep an event of an unknown instance, if the answer that tells its id may be on its way."""
        with self._lock:
            if self._expecting:
                self.early.add(instance_id, decoded)

    def take_early(self, instance_id: str) -> tuple[list[Any], int | None]:
        """See :meth:`EarlyEvents.take`. For ``on_success``."""
        with self._lock:
            return self.early.take(instance_id)

    def _settled(self, request: PendingRequest) -> None:
        """Note that a request brings no instance any more. The caller holds the lock."""
        if request in self._expecting:
            self._expecting.remove(request)
            self._clear_early()

    def _clear_early(self) -> None:
        """Drop the early events if no instance is expected any more. The caller holds the lock."""
        if not self._expecting:
            self.early.clear()


def _settle(
    request: PendingRequest, answer: Answer | InstanceList, events: list[tuple[Event, str]] | None, logs: bool
) -> bool:
    refused = isinstance(answer, Answer) and not answer.ok
    if logs:
        logger.debug(
            "request %d: %s is %s by a %r message",
            answer.corr_id,
            request.name,
            "refused" if refused else "answered",
            answer.kind,
        )
    if answer.kind not in request.kinds and not (refused and answer.kind == "response"):
        error = ProtocolError(f"{request.name}: the server answered with a {answer.kind!r} message")
        return request.settle(None, error)
    try:
        if request.on_success is not None and isinstance(answer, Answer) and answer.ok:
            if events is None:
                request.on_success(answer)
            else:
                request.on_end(answer, events)
    except ProtocolError as senseless:
        return request.settle(None, senseless)
    except MemoryError:
        error = ProtocolError(f"{request.name}: there is no memory for what the server's answer brings")
        return request.settle(None, error)
    return request.settle(answer)
