"""A launch that nobody waits for, so that one thread can have many of them on their way."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from .._session.pending_request import PendingRequest
from ..errors import InstanceFailed, LaunchError
from ..events import Event
from ..instance import Instance

if TYPE_CHECKING:
    from .._connection.manager import ConnectionManager
    from .._protocol.messages import Answer
    from .._support.signal_safe_queue import SignalSafeQueue
    from .._support.time_limits import TimeLimit
    from ..events import CompletedInstance
    from .program_reference import ProgramReference

__all__ = ["Launch"]

#: For how many seconds to try to get the session's lock, which other threads hold for microseconds.
_LOCK_TIMEOUT = 1.0


class Launch:
    """One launch: its request, and then its instance.

    Args:
        manager: the client's connection manager.
        method: the client's method, for error messages.
        program: what to launch.
        args: the instance's arguments.
        limit: how long the server's answer may take.
        done: gets this launch when it is refused or fails, and when its instance has ended or has met an error.

    Attributes:
        limit: see above.
        instance: the instance, once the server has told of it.

    Raises:
        AuthenticationError: the client isn't authenticated.
        LaunchError: the server was asked for the program by its hash, and does not have it.
        PieTimeoutError: it does not say in time whether it does.
        PieConnectionError: the connection is lost.
    """

    def __init__(
        self,
        manager: ConnectionManager,
        method: str,
        program: ProgramReference,
        args: list[str] | dict[str, Any],
        limit: TimeLimit,
        done: SignalSafeQueue[Launch] | None = None,
    ) -> None:
        connection = manager.authenticated(method, limit)
        self.manager = manager
        self._session = session = connection.session
        self._request = PendingRequest(
            method, (session.protocol.launch_answer,), self._make_instance, self._report
        )
        self._program_hash = program.hash
        self._program_name = program.name
        if program.name is not None:
            # What this client uploaded under a name of its own is known by its hash to some servers.
            self._program_hash = connection.programs.hash_of(program.name)
        if self._program_hash is not None:
            self._by_hash = connection.programs.name_of(self._program_hash, method, limit)
        self._args = args
        self._done = done
        self._corr_id: int | None = None
        self._given_up = False
        self._dropped = False
        self.limit = limit
        self.instance: Instance | None = None

    # --- the request --------------------------------------------------------------------------------------

    def send(self) -> None:
        """Send the request. Blocks only while the server does not read.

        Raises:
            TypeError, ValueError: the arguments can't be told to this server.
            PieTimeoutError: the request could not be sent in time.
            PieConnectionError: the connection is lost.
        """
        self._corr_id = self._session.router.pending.add(self._request)
        try:
            message = self._encode(self._corr_id)
            self._session.request(self._corr_id, self._request.name, message, self.limit.deadline())
        except Exception:
            self.give_up()
            raise

    def _encode(self, corr_id: int) -> bytes:
        protocol = self._session.protocol
        if self._program_hash is not None:
            return protocol.launch(corr_id, self._program_hash, self._by_hash, self._args, False)
        assert self._program_name is not None
        return protocol.launch_from_registry(corr_id, self._program_name, self._args, False)

    def _make_instance(self, answer: Answer) -> None:
        # In the reader thread, which may lose the connection the next moment: a reconnection attaches to those
        # instances that somebody has claimed by then.
        router = self._session.router
        router.add_instance(answer.text)
        events = router.claim(answer.text)
        instance = Instance(self.manager, self._session, answer.text, events)
        if not self._dropped:  # a dropped launch lets go of its instance at once
            self.instance = instance

    def _report(self) -> None:
        """Put the launch into ``done``, now or at the end of its instance. In the reader thread."""
        if self._done is None:
            return
        if self.instance is None or self._given_up:
            self._done.put(
                self
            )  # refused; or nobody waits for the instance any more, and somebody must terminate it
        else:
            self.instance._call_at_end(partial(self._done.put, self))

    @property
    def settled(self) -> bool:
        """Whether the server has answered, or can't any more."""
        return self._request.settled

    def wait(self, deadline: float | None) -> bool:
        """Block until the launch is answered, or the deadline. Return whether it is."""
        return self._request.wait(deadline)

    def give_up(self) -> None:
        """Wait for the answer no more. If one comes after all and brings an instance, ``done`` gets the launch."""
        self._given_up = True
        if self._corr_id is not None:
            self._session.router.pending.remove(self._corr_id, self._request)

    def check(self) -> None:
        """Raise if the launch did not succeed. Only when it is settled.

        Raises:
            LaunchError: the server refused.
            PieConnectionError: the connection was lost before the answer came.
            ProtocolError: the answer makes no sense.
        """
        answer: Any = self._request.result()
        if not answer.ok:
            raise LaunchError(self._request.name, answer.text)

    # --- the instance -------------------------------------------------------------------------------------

    def completed(self) -> CompletedInstance:
        """Return what the instance has sent, once it has ended.

        Raises:
            InstanceFailed: the instance did not complete.
            PieError, PieConnectionError: there was no launch, or its connection was lost.
        """
        self.check()
        assert self.instance is not None
        completed = self.instance._drain()
        if completed.event is not Event.Completed:
            raise InstanceFailed(self.instance.id, completed)
        return completed

    @property
    def is_running(self) -> bool:
        """Whether there is an instance whose end has not arrived."""
        return self.instance is not None and self.instance._is_running

    def drop(self) -> None:
        """Let go of the instance, also of one that an answer has yet to bring: what it sends is ignored."""
        self._dropped = True  # first, for the reader thread, which may have the answer just now
        self.instance = None

    # --- for whoever terminates it ------------------------------------------------------------------------

    def check_process(self) -> None:
        """Raise ``PieConnectionError`` in a child that was forked."""
        self._session.check_process()

    def is_usable_here(self) -> bool:
        """Whether this thread can talk to the server just now without waiting for itself.

        A generator that is part of a cycle is finalized wherever the garbage collector happens to run: perhaps in
        the reader thread, or in one that holds a lock of the session's.
        """
        session = self._session
        is_reader = session.is_reader(threading.current_thread())
        return not is_reader and session.router.pending.is_usable_here(_LOCK_TIMEOUT)

    def wait_for_instance(self, limit: TimeLimit) -> Instance | None:
        """Return the instance, if it runs. Waits for the launch's answer if need be."""
        if self._corr_id is not None and not self.wait(limit.deadline()):
            self.give_up()
        return self.instance if self.is_running else None
