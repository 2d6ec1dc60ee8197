"""Launches that nobody waits for: so one thread can have many on their way, and many instances running."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from .._session.pending_request import Call
from .._support.time_limits import Limit
from ..errors import InstanceEnded, InstanceFailed, LaunchError, PieConnectionError, PieError
from ..events import Event
from ..instance import Instance
from .completion import complete

if TYPE_CHECKING:
    from collections.abc import Collection

    from .._protocol.messages import Answer, InstanceList
    from .._session.session import Session
    from .._support.signal_safe_queue import Inbox
    from ..client import PieClient
    from ..instance import CompletedInstance
    from .program_reference import Runnable

__all__ = ["Launch", "terminate_all"]

#: For how many seconds at the most terminate_all() waits for the server.
_TERMINATE_TIMEOUT = 2.0

#: For how many seconds it tries to get the session's lock, which others hold for microseconds.
_LOCK_TIMEOUT = 1.0


class Launch(Call):
    """One launch, from its request to the end of its instance.

    Args:
        client: whose.
        method: the client's method, for error messages.
        runnable: what to launch.
        args: the instance's arguments.
        limit: how long it may take until the server has answered.
        over: gets this launch when it's over: refused, failed, or its instance has ended or has met an error.

    Attributes:
        limit: see above.
        instance: the instance, once the server has told of it.

    Raises:
        AuthenticationError: the client isn't authenticated.
        PieConnectionError: the connection is lost.
    """

    def __init__(
        self,
        client: PieClient,
        method: str,
        runnable: Runnable,
        args: list[str] | dict[str, Any],
        limit: Limit,
        over: Inbox[Launch] | None = None,
    ) -> None:
        connection = client._lifecycle.authenticated(method, limit)
        self._client = client
        self._session = session = connection.session
        super().__init__(method, (session.protocol.launch_answer,), self._grant)
        self._program_hash = runnable.hash
        self._program_name = runnable.name
        if runnable.name is not None:
            # What this client uploaded under a name of its own is known by its hash to some servers.
            self._program_hash = connection.programs.hash_of(runnable.name)
        if self._program_hash is not None:
            self._by_hash = connection.programs.name_of(self._program_hash)
        self._args = args
        self._over = over
        self._corr_id: int | None = None
        self._given_up = False
        self._dropped = False
        self.limit = limit
        self.instance: Instance | None = None

    def send(self) -> None:
        """Send the request. Blocks only while the server does not read.

        Raises:
            TypeError, ValueError: the arguments can't be told to this server.
            PieTimeoutError: it could not be sent in time.
            PieConnectionError: the connection is lost.
        """
        self._corr_id = self._session.calls.add(self)
        try:
            message = self._encode(self._corr_id)
            self._session.request(self._corr_id, self.name, message, self.limit.deadline())
        except Exception:
            self.give_up()
            raise

    def _encode(self, corr_id: int) -> bytes:
        protocol = self._session.protocol
        if self._program_hash is not None:
            return protocol.launch(corr_id, self._program_hash, self._by_hash, self._args, False)
        assert self._program_name is not None
        return protocol.launch_from_registry(corr_id, self._program_name, self._args, False)

    def _grant(self, answer: Answer) -> None:
        # In the reader thread, which may lose the connection the next moment: a reconnection attaches to those
        # instances that somebody has claimed by then.
        session = self._session
        session.add_instance(answer.text)
        events = session.claim(answer.text)
        self.instance = Instance(self._client, session, answer.text, events)
        if self._dropped:
            self.instance = None
            return
        if self._over is None:
            return
        if self._given_up:
            self._over.put(self)  # nobody waits for its end: it has to be terminated
        else:
            assert events is not None
            events.when_ended(partial(self._over.put, self))

    def finish(self, answer: Answer | InstanceList | None, error: Exception | None = None) -> None:
        """Take the answer; see :class:`Call`."""
        super().finish(answer, error)
        if self.instance is None and self._over is not None:
            self._over.put(self)

    def give_up(self) -> None:
        """Wait for the answer no more. If it comes after all, and there's an instance, ``over`` gets it."""
        self._given_up = True
        if self._corr_id is not None:
            self._session.calls.remove(self._corr_id, self)

    def check(self) -> None:
        """Raise if the launch was not granted. Only when it's finished.

        Raises:
            LaunchError: the server refused.
            PieConnectionError: the connection was lost before the answer came.
            ProtocolError: the answer makes no sense.
        """
        answer: Any = self.result()
        if not answer.ok:
            raise LaunchError(self.name, answer.text)

    def completed(self) -> CompletedInstance:
        """Return what the instance has sent, once it has ended.

        Raises:
            InstanceFailed: it did not complete.
            PieError, PieConnectionError: it was not launched, or its connection was lost.
        """
        self.check()
        assert self.instance is not None
        events = self.instance._events
        assert events is not None
        items = []
        try:
            while True:
                items.append(events.get(block=False))
        except InstanceEnded:
            completed = complete(items)
        if completed.event is not Event.Completed:
            raise InstanceFailed(self.instance.id, completed)
        return completed

    @property
    def is_running(self) -> bool:
        """Whether there is an instance whose end has not arrived."""
        events = None if self.instance is None else self.instance._events
        return events is not None and events.terminal is None

    def check_process(self) -> None:
        """Raise ``PieConnectionError`` in a child that was forked."""
        self._session.check_process()

    def is_usable_here(self) -> bool:
        """Whether this thread can talk to the server just now without waiting for itself.

        A generator that is part of a cycle is finalized wherever the garbage collector happens to run: perhaps in
        the reader thread, or in one that holds a lock of the session's.
        """
        session = self._session
        return threading.current_thread() is not session._thread and session.calls.is_usable_here(_LOCK_TIMEOUT)

    def begin_terminating(self, limit: Limit) -> Termination | None:
        """Send the request to terminate the instance, if it runs. Waits for the launch's answer if need be."""
        if self._corr_id is not None and not self.wait(limit.deadline()):
            self.give_up()
        if self.instance is None or not self.is_running:
            return None
        session = self._client._lifecycle.session_of(self.instance, "terminate_instance", limit)
        return Termination(session, self.instance.id, limit)

    def drop(self) -> None:
        """Let go of the instance, also of one that the answer has yet to bring: what it sends is ignored."""
        self._dropped = True  # first, for the reader thread, which may have the answer just now
        self.instance = None


class Termination(Call):
    """The request to terminate an instance, on its way."""

    def __init__(self, session: Session, instance_id: str, limit: Limit) -> None:
        super().__init__("terminate_instance", ("response",))
        self._session = session
        self._limit = limit
        self._corr_id = session.calls.add(self)
        message = session.protocol.terminate(self._corr_id, instance_id)
        session.request(self._corr_id, self.name, message, limit.deadline())

    def wait_for_answer(self) -> None:
        """Block until the server has taken note, or the time is over."""
        self.wait(self._limit.deadline())
        self._session.calls.remove(self._corr_id, self)


def terminate_all(launches: Collection[Launch]) -> None:
    """End whatever still runs of ``launches``, and let go of it. Blocks for 2 seconds at the most.

    All requests are sent before the first answer is waited for. What a server or a connection does not allow to
    be terminated is left alone: there is another error already, or nobody who could be told.
    """
    limit = Limit(_TERMINATE_TIMEOUT)
    try:
        for launch in launches:
            launch.check_process()
            if not launch.is_usable_here():
                return
        terminations = [launch.begin_terminating(limit) for launch in launches]
        for termination in terminations:
            if termination is not None:
                termination.wait_for_answer()
    except (PieError, PieConnectionError):
        pass
    finally:
        for launch in launches:
            launch.drop()
