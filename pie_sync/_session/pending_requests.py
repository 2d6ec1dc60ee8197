"""The requests of one session that wait for their answers."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from .._protocol.messages import Answer
from ..errors import PieConnectionError, ProtocolError, RequestError
from .early_events import EarlyEvents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._protocol.messages import InstanceList
    from .pending_request import PendingRequest

__all__ = ["PendingRequests", "copy_of_error"]

logger = logging.getLogger("pie_sync.protocol")

#: How many abandoned requests are remembered, in case their answers come after all.
_MAX_ABANDONED = 256


class PendingRequests:
    """Finds the request that an answer belongs to, by its correlation id. Thread-safe.

    The reader thread hands in the answers; every other thread adds the requests that it waits for. What becomes of
    a request is logged at DEBUG, under its correlation id.
    """

    def __init__(self) -> None:
        # Guards _abandoned, _expected and _early. Each use of _pending is one step, so that no other thread
        # comes in between: dict.copy(), for example, and not list(dict.items()), which may run the garbage
        # collector.
        self._lock = threading.Lock()
        self._corr_ids = count(1)
        self._pending: dict[int, PendingRequest] = {}
        self._abandoned: OrderedDict[int, PendingRequest] = OrderedDict()
        # How many requests of both kinds bring an instance. While there are any, events may come before the id of
        # their instance is known.
        self._expected = 0
        self._early = EarlyEvents()
        self._lost: PieConnectionError | None = None

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._pending)

    # --- for the thread that waits ------------------------------------------------------------------------

    @contextmanager
    def waiting(self, request: PendingRequest) -> Iterator[int]:
        """Return a context that yields the correlation id under which ``request`` can be answered."""
        corr_id = self.add(request)
        try:
            yield corr_id
        finally:
            self.remove(corr_id, request)

    def add(self, request: PendingRequest) -> int:
        """Give a request a correlation id: an unsigned 32-bit integer that no other pending request has.

        Raises:
            PieConnectionError: the connection is lost.
        """
        corr_id = next(self._corr_ids) % 2**32
        while corr_id in self._pending or corr_id in self._abandoned:
            corr_id = next(self._corr_ids) % 2**32
        if request.on_success is not None:
            with self._lock:
                self._expected += 1
        # Without the lock, and in this order: fail_all() sets _lost first, and then looks for requests.
        self._pending[corr_id] = request
        if self._lost is not None:
            self._pending.pop(corr_id, None)
            raise copy_of_error(self._lost)
        return corr_id

    def remove(self, corr_id: int, request: PendingRequest) -> None:
        """Stop waiting for an answer. An answer that comes later and is positive still makes an instance."""
        if corr_id not in self._pending:
            return  # the usual case: it was answered
        with self._lock:
            if self._pending.pop(corr_id, None) is None:
                return
            if request.on_success is not None and self._lost is None:
                # An instance may come of it yet, and its events before the answer.
                self._abandoned[corr_id] = request
                if len(self._abandoned) > _MAX_ABANDONED:
                    self._settled(self._abandoned.popitem(last=False)[1])
        logger.debug("request %d: %s is not waited for any more", corr_id, request.name)

    def is_usable_here(self, timeout: float) -> bool:
        """Whether this thread is outside of all these methods. Waits up to ``timeout`` seconds for the lock.

        For finalizers, which run wherever the garbage collector happens to.
        """
        if not self._lock.acquire(timeout=timeout):
            return False
        self._lock.release()
        return True

    # --- for the reader thread ----------------------------------------------------------------------------

    def answer(self, answer: Answer | InstanceList) -> None:
        """Settle the request that an answer belongs to."""
        corr_id = answer.corr_id
        # Without the lock: it is one step, and remove() holds the lock until the request is among the abandoned.
        request = self._pending.pop(corr_id, None)
        if request is not None:
            try:
                _settle(request, answer)
            except BaseException:
                # A defect of this library, which ends the reader thread: fail_all() tells the caller.
                self._pending[corr_id] = request
                raise
            if request.on_success is not None:
                with self._lock:  # only now: on_success() may need the early events
                    self._settled(request)
            return
        with self._lock:
            abandoned = self._abandoned.pop(corr_id, None)
        if abandoned is not None:
            _settle(abandoned, answer)
            with self._lock:
                self._settled(abandoned)
        else:
            # Expected: a failed upload is answered once for each of its chunks, and requests time out.
            logger.debug("request %d: ignored a %r message, which nobody waits for", corr_id, answer.kind)

    def refuse(self, text: str) -> None:
        """Fail the only pending request: the server could not understand a message. Nothing if there are more."""
        waiting = list(self._pending.copy().items())
        if len(waiting) == 1:
            corr_id, request = waiting[0]
            self.fail(corr_id, RequestError(request.name, text))

    def fail(self, corr_id: int, error: Exception) -> bool:
        """Settle the request with this correlation id by an error. Return whether there is one."""
        with self._lock:
            request = self._pending.pop(corr_id, None)
            if request is not None:
                self._settled(request)
        if request is None:
            return False
        logger.debug("request %d: %s failed: %s", corr_id, request.name, error)
        request.settle(None, error)
        return True

    def fail_all(self, error: PieConnectionError) -> None:
        """Settle all requests by an error, and refuse further ones: the connection is lost."""
        with self._lock:
            self._lost = error
            self._abandoned.clear()
            self._expected = 0
            self._early.clear()
        for corr_id, request in self._pending.copy().items():
            if self._pending.pop(corr_id, None) is None:
                continue  # nobody waits for it any more
            logger.debug("request %d: %s failed: %s", corr_id, request.name, error)
            request.settle(None, copy_of_error(error))

    def keep_early(self, instance_id: str, decoded: Any) -> None:
        """Keep an event of an unknown instance, if the answer that tells its id may be on its way."""
        with self._lock:
            if self._expected:
                self._early.add(instance_id, decoded)

    def take_early(self, instance_id: str) -> tuple[list[Any], int]:
        """See :meth:`EarlyEvents.take`. For ``on_success``."""
        with self._lock:
            return self._early.take(instance_id)

    def _settled(self, request: PendingRequest) -> None:
        """Mark a request as settled. The caller holds the lock."""
        if request.on_success is not None:
            self._expected -= 1
            if self._expected == 0:
                self._early.clear()


def _settle(request: PendingRequest, answer: Answer | InstanceList) -> None:
    refused = isinstance(answer, Answer) and not answer.ok
    logger.debug(
        "request %d: %s is %s by a %r message",
        answer.corr_id,
        request.name,
        "refused" if refused else "answered",
        answer.kind,
    )
    if answer.kind not in request.kinds and not (refused and answer.kind == "response"):
        request.settle(None, ProtocolError(f"{request.name}: the server answered with a {answer.kind!r} message"))
        return
    try:
        if request.on_success is not None and isinstance(answer, Answer) and answer.ok:
            request.on_success(answer)
    except ProtocolError as error:
        request.settle(None, error)
    else:
        request.settle(answer)


def copy_of_error(error: PieConnectionError) -> PieConnectionError:
    """Return a new exception for one of many who get it: a raised one collects the traceback of every thread."""
    copy = type(error)(*error.args)
    copy.__cause__ = error
    return copy
