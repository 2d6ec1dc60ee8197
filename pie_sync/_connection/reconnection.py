"""Reconnection: makes a lost connection again, and attaches its instances to the new one.

The reconnector runs in the reader thread of the lost session, which has nothing else to do any more. So a client
has one thread also while it reconnects.
"""

from __future__ import annotations

import logging
import random
import threading
from time import monotonic
from typing import TYPE_CHECKING, Callable, Protocol, TypeVar

from .._printable import SHORT, printable
from .._protocol import ProcessProtocol
from .._support.kept_errors import without_frames
from .._support.time_limits import TimeLimit, deadline_after, time_left
from ..errors import AttachError, AuthenticationError, PieConnectionError, PieError
from .instances import attach, list_instances

if TYPE_CHECKING:
    from .._session.event_queue import EventQueue
    from .._session.session import Session

__all__ = ["Reconnector", "UnwantedError"]

logger = logging.getLogger("pie_sync.connection")

#: Seconds before the first new attempt and between the later ones, each a random part of twice the one before.
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 5.0

#: For how many seconds an instance that is attached to another connection may yet be ours, where there is no
#: ``reconnect_timeout``. Until the server notices that our old connection is gone, it is attached to that.
_PATIENCE = 60.0

#: How many seconds the answer to an attach may take at least.
_ATTACH_TIMEOUT = 1.0


class UnwantedError(PieConnectionError):
    """Nobody wants the connection any more: the client was closed, or collected as garbage."""


class _HasSession(Protocol):
    @property
    def session(self) -> Session:
        """The session of the connection."""


_Connection = TypeVar("_Connection", bound=_HasSession)


class Reconnector:
    """Replaces one session that has lost its connection.

    From :meth:`run` on the instances belong to the reconnector, until a new session is adopted or they are ended.

    Args:
        timeout: for how many seconds to try; None is without limit.
        connect: makes a new, authenticated connection within so many seconds (None: its own limit). Tells of the
            session before it is opened, by the function that it is given. Raises :exc:`UnwantedError` when there
            is no need to try again.
        adopt: called with the new connection once its instances are attached. False if it is lost again. Raises
            :exc:`UnwantedError` as well.
    """

    def __init__(
        self,
        timeout: float | None,
        connect: Callable[[float | None, Callable[[Session], None]], _Connection],
        adopt: Callable[[_Connection], bool],
    ) -> None:
        self._timeout = timeout
        self._connect = connect
        self._adopt = adopt
        self._stopped = threading.Event()
        # The session that is to replace the lost one, once there is one.
        self._candidate: Session | None = None

    def stop(self) -> None:
        """Give up, from another thread. Never waits."""
        self._stopped.set()
        candidate = self._candidate
        if candidate is not None:
            candidate.abort()

    def run(self, lost: Session, error: PieConnectionError) -> None:
        """Replace ``lost``. Blocks until that is done, or given up: then all instances have ended."""
        queues = lost.router.take_instances()
        try:
            failure = self._try(queues, error)
        except UnwantedError as unwanted:
            failure = unwanted
        except BaseException as unexpected:
            logger.exception("reconnecting failed")
            failure = PieConnectionError(f"reconnecting failed: {unexpected!r}")
        if failure is not None:
            self._drop_candidate()
            for events in queues.values():
                _end(events, str(failure), failure)

    def _try(self, queues: dict[str, EventQueue], error: PieConnectionError) -> PieConnectionError | None:
        """Try until it works; ``queues`` loses what needs no more restoring. Returns why it was given up."""
        deadline = deadline_after(self._timeout)
        delay = _FIRST_DELAY
        while True:
            if self._stopped.wait(random.uniform(delay / 2, delay)):  # noqa: S311 - jitter, not a secret
                return PieConnectionError("the client was closed")
            delay = min(2 * delay, _LONGEST_DELAY)
            if deadline is not None and monotonic() >= deadline:
                return PieConnectionError(
                    f"{error.text}; not reconnected within {self._timeout} s (reconnect_timeout)"
                )
            logger.info("reconnecting")
            try:
                connection = self._connect(time_left(deadline), self._set_candidate)
                self._attach_all(connection.session, queues, deadline)
            except UnwantedError:
                raise
            except AuthenticationError as refused:
                return PieConnectionError(f"{error.text}; reconnected, but {refused}")
            except (PieConnectionError, PieError) as again:
                logger.info("not reconnected yet: %s", again)
                if isinstance(again, PieConnectionError):
                    error = without_frames(again)
            else:
                if self._adopt(connection):
                    connection.session.router.drop_forgotten()
                    return None
            self._drop_candidate()

    def _set_candidate(self, session: Session) -> None:
        self._candidate = session
        if self._stopped.is_set():
            session.abort()

    def _drop_candidate(self) -> None:
        """End the session that was not adopted. Blocks until its reader thread puts no more events."""
        if self._candidate is not None:
            self._candidate.abort()
            self._candidate.wait_until_closed(None)

    def _attach_all(self, session: Session, queues: dict[str, EventQueue], deadline: float | None) -> None:
        """Attach every instance; end the queues of those that aren't there any more."""
        waiting = list(queues)
        delay = _FIRST_DELAY
        begin = monotonic()
        patience = begin + _PATIENCE if deadline is None else deadline
        lost = _LostInstances(session)
        while waiting:
            for instance_id in list(waiting):
                if queues[instance_id].forgotten or queues[instance_id].terminal is not None:
                    queues.pop(instance_id)
                    waiting.remove(instance_id)
                    continue
                is_last_try = monotonic() >= patience
                # Also past the deadline, which is for connecting: a server that is there gets time to answer.
                left = time_left(None if deadline is None else max(deadline, monotonic() + _ATTACH_TIMEOUT))
                try:
                    attach(session, instance_id, TimeLimit(left), queues[instance_id])
                except AttachError as error:
                    if "already attached" not in error.reason:
                        reason = lost.explain(instance_id, error.reason, TimeLimit(left))
                    elif is_last_try:
                        reason = (
                            f"the connection was lost, and instance {instance_id} could not be attached to"
                            f" within {monotonic() - begin:.1f} s: for the server it is still attached to the lost"
                            " connection, or else to another client's"
                            f" ({printable(error.reason, SHORT)}); attach_instance() may work later"
                        )
                    else:
                        continue
                    _end(queues.pop(instance_id), reason, error)
                waiting.remove(instance_id)
            if waiting and self._stopped.wait(delay):
                raise PieConnectionError("the client was closed")
            delay = min(2 * delay, _LONGEST_DELAY, max(0.0, patience - monotonic()))


class _LostInstances:
    """Explains why instances can't be attached to any more, on one new connection.

    Args:
        session: the new connection.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        # What the server still lists; None as long as it was not asked.
        self._listed: set[str] | None = None

    def explain(self, instance_id: str, refusal: str, limit: TimeLimit) -> str:
        """Return the reason for the user. Asks the server for its list, once, where that tells something.

        Raises:
            PieError, PieConnectionError: the server does not answer.
        """
        begin = (
            f"the connection was lost, and instance {instance_id} did not survive it: {printable(refusal, SHORT)}"
        )
        if self._session.endpoint.is_gateway:
            return f"{begin} (Pie 0.5 ends what is attached to a connection when it ends)"
        if not isinstance(self._session.protocol, ProcessProtocol):
            return begin
        if self._listed is None:
            self._listed = {info.id for info in list_instances(self._session, limit)}
        if instance_id not in self._listed:
            return f"{begin} (it has ended, and the server had only the lost connection to tell that)"
        return (
            f"the connection was lost, and instance {instance_id} can't be attached to any more, though it runs"
            f" on: servers of Pie 0.3 and 0.4 leave it bound to the lost connection ({printable(refusal, SHORT)});"
            f" client.terminate_instance({instance_id!r}) ends it"
        )


def _end(events: EventQueue, reason: str, cause: Exception) -> None:
    def ending() -> PieConnectionError:
        error = PieConnectionError(reason)
        error.__cause__ = cause
        return error

    events.end(ending)
