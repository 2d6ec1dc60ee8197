"""Reconnection: a lost connection is made again, and its instances are attached to the new one.

The thread that does it is the reader thread of the lost session, which has nothing else to do any more: so there
is one thread for a client also while it reconnects.
"""

from __future__ import annotations

import logging
import random
import threading
from time import monotonic
from typing import TYPE_CHECKING, Callable, Protocol

from .._support.time_limits import Limit, deadline_after, time_left
from ..errors import AttachError, AuthenticationError, PieConnectionError, PieError

if TYPE_CHECKING:
    from .._session.event_queue import EventQueue
    from .._session.session import Session

__all__ = ["OrphanedError", "Restoration", "RestoredConnection"]

logger = logging.getLogger("pie_sync.connection")

#: Seconds before the first new attempt and between the later ones, each a random part of twice the one before.
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 5.0

#: For how many seconds an instance that is attached to another connection may yet be ours: until the server has
#: noticed that our old connection is gone. After that somebody else has taken it over.
_PATIENCE = 10.0

#: How many seconds the answer to an attach may take at least.
_ATTACH_TIMEOUT = 1.0


class OrphanedError(PieConnectionError):
    """Nobody wants the connection any more: the client has been collected as garbage."""


class RestoredConnection(Protocol):
    """What the caller makes: a new connection, authenticated."""

    @property
    def session(self) -> Session:
        """Its session."""


class Restoration:
    """What happens when one particular session loses its connection.

    Args:
        timeout: for how many seconds to try; None is without limit.
        connect: makes a new, authenticated connection within so many seconds (None: its own limit). Tells of
            the session before it's opened, by the function that it is given. Raises :exc:`OrphanedError` when
            there's no need to try again.
        restored: called with the new connection once its instances are attached. False if it is lost again.
    """

    def __init__(
        self,
        timeout: float | None,
        connect: Callable[[float | None, Callable[[Session], None]], RestoredConnection],
        restored: Callable[[RestoredConnection], bool],
    ) -> None:
        self._timeout = timeout
        self._connect = connect
        self._restored = restored
        self._stopped = threading.Event()
        self._finished = threading.Event()
        self._session: Session | None = None

    @property
    def finished(self) -> bool:
        """Whether it has succeeded, or failed for good."""
        return self._finished.is_set()

    def wait(self, timeout: float | None) -> bool:
        """Block until it has succeeded or failed, or ``timeout`` seconds are over; say which."""
        return self._finished.wait(timeout)

    def stop(self) -> None:
        """Give up, from another thread. Never waits."""
        self._stopped.set()
        session = self._session
        if session is not None:
            session.abort()

    def run(self, lost: Session, error: PieConnectionError) -> None:
        """Restore what ``lost`` had. Blocks until that is done, or given up."""
        queues = lost.take_instances()
        try:
            failure = self._try(queues, error)
        except BaseException as unexpected:
            logger.exception("reconnecting failed")
            failure = PieConnectionError(f"reconnecting failed: {unexpected!r}")
        if failure is not None:
            if self._session is not None:
                self._session.abort()
            for events in queues.values():
                _end(events, str(failure), failure)
        self._finished.set()

    def _try(self, queues: dict[str, EventQueue], error: PieConnectionError) -> PieConnectionError | None:
        """Try until it works; ``queues`` loses what needs no more restoring. Returns why it was given up."""
        deadline = deadline_after(self._timeout)
        delay = _FIRST_DELAY
        while True:
            if self._stopped.wait(random.uniform(delay / 2, delay)):  # noqa: S311 - jitter, not a secret
                return PieConnectionError("the client was closed")
            delay = min(2 * delay, _LONGEST_DELAY)
            if deadline is not None and monotonic() >= deadline:
                return PieConnectionError(f"{error}; not reconnected within {self._timeout} s (reconnect_timeout)")
            logger.info("reconnecting")
            try:
                connection = self._connect(time_left(deadline), self._set_session)
                self._attach(connection.session, queues, deadline)
            except OrphanedError as orphaned:
                return orphaned
            except AuthenticationError as refused:
                return PieConnectionError(f"{error}; reconnected, but {refused}")
            except (PieConnectionError, PieError) as again:
                logger.info("not reconnected yet: %s", again)
                if isinstance(again, PieConnectionError):
                    error = _without_frames(again)
            else:
                if self._restored(connection):
                    connection.session.drop_forgotten()
                    return None
            if self._session is not None:
                self._session.abort()
                queues.update(self._session.take_instances())

    def _set_session(self, session: Session) -> None:
        self._session = session
        if self._stopped.is_set():
            session.abort()

    def _attach(self, session: Session, queues: dict[str, EventQueue], deadline: float | None) -> None:
        """Attach every instance; end the queues of those that aren't there any more."""
        waiting = list(queues)
        delay = _FIRST_DELAY
        patience = monotonic() + _PATIENCE if deadline is None else min(monotonic() + _PATIENCE, deadline)
        while waiting:
            for instance_id in list(waiting):
                if queues[instance_id].forgotten:
                    queues.pop(instance_id)
                    waiting.remove(instance_id)
                    continue
                is_last_try = monotonic() >= patience
                try:
                    self._attach_one(session, instance_id, queues[instance_id], deadline)
                except AttachError as error:
                    if "already attached" in error.reason and not is_last_try:
                        continue
                    reason = (
                        f"the connection was lost, and instance {instance_id} did not survive it: {error.reason}"
                        " (Pie 0.5 ends what is attached to a connection when it ends)"
                    )
                    _end(queues.pop(instance_id), reason, error)
                waiting.remove(instance_id)
            if waiting and self._stopped.wait(delay):
                raise PieConnectionError("the client was closed")
            delay = min(2 * delay, _LONGEST_DELAY, max(0.0, patience - monotonic()))

    def _attach_one(self, session: Session, instance_id: str, events: EventQueue, deadline: float | None) -> None:
        # Also past the deadline, which is for connecting: a server that is there deserves a moment for its answer.
        left = time_left(None if deadline is None else max(deadline, monotonic() + _ATTACH_TIMEOUT))
        session.call(
            "attach_instance",
            lambda corr_id: session.protocol.attach(corr_id, instance_id),
            Limit(left),
            kind=session.protocol.attach_answer,
            on_granted=lambda _: session.add_instance(instance_id, events),
            refused=AttachError,
        )


def _without_frames(error: PieConnectionError) -> PieConnectionError:
    """Return an error that is to be kept, without what its frames and their callers hold: the client among it."""
    part: BaseException | None = error
    while part is not None:
        part.__traceback__ = None
        part = part.__cause__ or part.__context__
    return error


def _end(events: EventQueue, reason: str, cause: Exception) -> None:
    def ending() -> PieConnectionError:
        error = PieConnectionError(reason)
        error.__cause__ = cause
        return error

    events.end(ending)
