"""The requests of one connection that wait for their answers."""

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
    from .pending_request import Call

__all__ = ["Calls", "again"]

logger = logging.getLogger("pie_sync.protocol")

#: How many calls that were given up are remembered, in case their answer comes after all.
_MAX_ABANDONED = 256


class Calls:
    """Finds for each answer the call that it is for, by the correlation id. Thread-safe.

    Answers are told by the reader thread; every other thread registers what it waits for. What becomes of a
    request is logged at DEBUG, under its correlation id.
    """

    def __init__(self) -> None:
        # Guards _abandoned, _expected and _early. What is done with _pending is one step each, and no other thread
        # comes in between: so dict.copy(), and not list(dict.items()), which may run the garbage collector.
        self._lock = threading.Lock()
        self._corr_ids = count(1)
        self._pending: dict[int, Call] = {}
        self._abandoned: OrderedDict[int, Call] = OrderedDict()
        # How many of both bring an instance: while there are any, events may come before its id is known.
        self._expected = 0
        self._early = EarlyEvents()
        self._lost: PieConnectionError | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._pending)

    # --- by whoever waits -------------------------------------------------------------------------------

    @contextmanager
    def waiting(self, call: Call) -> Iterator[int]:
        """Return a context with the correlation id under which ``call`` can be answered."""
        corr_id = self.add(call)
        try:
            yield corr_id
        finally:
            self.remove(corr_id, call)

    def add(self, call: Call) -> int:
        """Give a call a correlation id: an unsigned 32-bit integer that no other waiting call has.

        Raises:
            PieConnectionError: the connection is lost.
        """
        corr_id = next(self._corr_ids) % 2**32
        while corr_id in self._pending or corr_id in self._abandoned:
            corr_id = next(self._corr_ids) % 2**32
        if call.on_granted is not None:
            with self._lock:
                self._expected += 1
        # Without the lock, and in this order: lose() sets what is looked at here, and then looks for calls.
        self._pending[corr_id] = call
        if self._lost is not None:
            self._pending.pop(corr_id, None)
            raise again(self._lost)
        return corr_id

    def remove(self, corr_id: int, call: Call) -> None:
        """Take back what :meth:`add` did. If an answer comes later and grants the call, that still counts."""
        if corr_id not in self._pending:
            return  # the usual case: it was answered
        with self._lock:
            if self._pending.pop(corr_id, None) is None:
                return
            if call.on_granted is not None and self._lost is None:
                # An instance may come of it yet, and its events before the answer.
                self._abandoned[corr_id] = call
                if len(self._abandoned) > _MAX_ABANDONED:
                    self._settle(self._abandoned.popitem(last=False)[1])
        logger.debug("request %d: %s is not waited for any more", corr_id, call.name)

    def is_usable_here(self, timeout: float) -> bool:
        """Whether this thread isn't inside one of these methods already; it may wait ``timeout`` seconds for that.

        For finalizers, which run wherever the garbage collector happens to.
        """
        if not self._lock.acquire(timeout=timeout):
            return False
        self._lock.release()
        return True

    # --- by the reader thread ---------------------------------------------------------------------------

    def answer(self, answer: Answer | InstanceList) -> None:
        """Finish the call that an answer is for."""
        corr_id = answer.corr_id
        # Without the lock: it is one step, and whoever was quicker holds the lock until it is among the abandoned.
        call = self._pending.pop(corr_id, None)
        if call is not None:
            try:
                _finish(call, answer)
            except BaseException:
                # A defect of this library, which ends the reader thread: lose() tells the caller.
                self._pending[corr_id] = call
                raise
            if call.on_granted is not None:
                with self._lock:  # and not before: on_granted() may need the early events
                    self._settle(call)
            return
        with self._lock:
            abandoned = self._abandoned.pop(corr_id, None)
        if abandoned is not None:
            _finish(abandoned, answer)
            with self._lock:
                self._settle(abandoned)
        else:
            # Expected: a failed upload is answered once for each of its chunks, and calls time out.
            logger.debug("request %d: ignored a %r message, which nobody waits for", corr_id, answer.kind)

    def refuse(self, text: str) -> None:
        """Take note that the server could not understand a message. If only one waits, it must be that one's."""
        waiting = list(self._pending.copy().items())
        if len(waiting) == 1:
            corr_id, call = waiting[0]
            self.fail(corr_id, RequestError(call.name, text))

    def fail(self, corr_id: int, error: Exception) -> bool:
        """End the call with this correlation id by an error; say whether there is one."""
        with self._lock:
            call = self._pending.pop(corr_id, None)
            if call is not None:
                self._settle(call)
        if call is None:
            return False
        logger.debug("request %d: %s failed: %s", corr_id, call.name, error)
        call.finish(None, error)
        return True

    def lose(self, error: PieConnectionError) -> None:
        """End all calls, and let there be no more: the connection is lost."""
        with self._lock:
            self._lost = error
            self._abandoned.clear()
            self._expected = 0
            self._early.clear()
        for corr_id, call in self._pending.copy().items():
            if self._pending.pop(corr_id, None) is None:
                continue  # it isn't waited for any more
            logger.debug("request %d: %s failed: %s", corr_id, call.name, error)
            call.finish(None, again(error))

    def keep_early(self, instance_id: str, decoded: Any) -> None:
        """Keep what came of an unknown instance, if an answer that tells of it may be on its way."""
        with self._lock:
            if self._expected:
                self._early.add(instance_id, decoded)

    def take_early(self, instance_id: str) -> tuple[list[Any], int]:
        """See :meth:`EarlyEvents.take`. In ``on_granted``."""
        with self._lock:
            return self._early.take(instance_id)

    def _settle(self, call: Call) -> None:
        """Take note, with the lock held, that a call has got its answer or waits no more."""
        if call.on_granted is not None:
            self._expected -= 1
            if self._expected == 0:
                self._early.clear()


def _finish(call: Call, answer: Answer | InstanceList) -> None:
    refused = isinstance(answer, Answer) and not answer.ok
    logger.debug(
        "request %d: %s is %s by a %r message",
        answer.corr_id,
        call.name,
        "refused" if refused else "answered",
        answer.kind,
    )
    if answer.kind not in call.kinds and not (refused and answer.kind == "response"):
        call.finish(None, ProtocolError(f"{call.name}: the server answered with a {answer.kind!r} message"))
        return
    try:
        if call.on_granted is not None and isinstance(answer, Answer) and answer.ok:
            call.on_granted(answer)
    except ProtocolError as error:
        call.finish(None, error)
    else:
        call.finish(answer)


def again(error: PieConnectionError) -> PieConnectionError:
    """A new exception for each one who gets it: a raised one collects the traceback of every thread."""
    copy = type(error)(*error.args)
    copy.__cause__ = error
    return copy
