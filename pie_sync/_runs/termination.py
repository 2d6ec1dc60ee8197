"""Terminates what is left of a run or a map, all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._session.pending_request import PendingRequest
from .._support.time_limits import TimeLimit
from ..errors import PieConnectionError, PieError

if TYPE_CHECKING:
    from collections.abc import Collection

    from .._session.session import Session
    from .launch import Launch

__all__ = ["terminate_all"]

#: For how many seconds at the most terminate_all() waits for the server.
_TIMEOUT = 2.0


def terminate_all(launches: Collection[Launch]) -> None:
    """Terminate the instances of ``launches`` that still run. Blocks for 2 seconds at the most.

    All requests are sent before the first answer is waited for. What a server or a connection does not allow to
    be terminated is left alone: there is another error already, or nobody who could be told.
    """
    limit = TimeLimit(_TIMEOUT)
    try:
        for launch in launches:
            launch.check_process()
            if not launch.is_usable_here():
                return
        terminations = [_begin(launch, limit) for launch in launches]
        for termination in terminations:
            if termination is not None:
                termination.wait()
    except (PieError, PieConnectionError):
        pass
    finally:
        for launch in launches:
            launch.drop()


def _begin(launch: Launch, limit: TimeLimit) -> _Termination | None:
    instance = launch.wait_for_instance(limit)
    if instance is None:
        return None
    return _Termination(instance._current_session("terminate_instance", limit), instance.id, limit)


class _Termination:
    """The request to terminate an instance, on its way."""

    def __init__(self, session: Session, instance_id: str, limit: TimeLimit) -> None:
        self._pending = session.router.pending
        self._limit = limit
        self._request = PendingRequest("terminate_instance", ("response",))
        self._corr_id = self._pending.add(self._request)
        message = session.protocol.terminate(self._corr_id, instance_id)
        session.request(self._corr_id, self._request.name, message, limit.deadline())

    def wait(self) -> None:
        """Block until the server has taken note, or the time is over."""
        self._request.wait(self._limit.deadline())
        self._pending.remove(self._corr_id, self._request)
