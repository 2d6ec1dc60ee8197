"""Terminates what is left of a run or a map, all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._session.pending_request import PendingRequest
from .._support.time_limits import TimeLimit
from ..errors import PieConnectionError, PieError

if TYPE_CHECKING:
    from collections.abc import Collection

    from .._session.session import Session
    from ..instance import Instance
    from .launch import Launch

__all__ = ["terminate_all"]

#: For how many seconds at the most terminate_all() waits for the server.
_TIMEOUT = 2.0


def terminate_all(launches: Collection[Launch]) -> None:
    """Terminate the instances of ``launches`` that still run, and let go of all. Blocks for 2 seconds at the most.

    All requests are sent before the first answer is waited for. Where this thread must not wait, in a finalizer or
    because the connection is busy, the requests go out as soon as it is free, and the answers are not waited for.
    (Over TLS and in the reader thread of another client, they go out with the next message or ping.)
    What a server or a connection does not allow to be terminated is left alone: there is another error already, or
    nobody who could be told.
    """
    limit = TimeLimit(_TIMEOUT)
    terminations: list[_Termination] = []
    try:
        if all(launch.may_wait_here() for launch in launches):
            for launch in launches:
                launch.check_process()
                instance = launch.wait_for_instance(limit)
                if instance is not None:
                    terminations.append(_Termination(instance, limit))
                    launch.is_terminated = terminations[-1].post()
            for termination in terminations:
                termination.wait()
    except (PieError, PieConnectionError):
        pass
    finally:
        for termination in terminations:
            termination.close()
        for launch in launches:
            launch.drop()


class _Termination:
    """A request to terminate an instance.

    Args:
        instance: which one. If its connection is being restored, that is waited for.
        limit: how long all of it may take.
    """

    def __init__(self, instance: Instance, limit: TimeLimit) -> None:
        self._instance_id = instance.id
        self._limit = limit
        self._session: Session = instance._current_session("terminate_instance", limit)
        self._request = PendingRequest("terminate_instance", ("response",))
        self._is_sent = False

    def post(self) -> bool:
        """Send it without waiting. Return whether it will be sent, if there is a connection."""
        corr_id = self._session.router.pending.add(self._request)
        self._is_sent = self._session.post(self._session.protocol.terminate(corr_id, self._instance_id))
        return True

    def wait(self) -> None:
        """Block until the server has taken note, or the time is over.

        Not at all if the connection is busy: perhaps this thread is what keeps it busy, below a finalizer.
        """
        if self._is_sent:
            self._request.wait(self._limit.deadline())

    def close(self) -> None:
        """Wait for the answer no more."""
        self._session.router.pending.remove(self._request)
