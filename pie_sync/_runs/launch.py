"""A launch whose answer no thread waits for, so that one thread can have many of them on their way."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._session.event_queue import EventQueue
from .._session.pending_request import PendingRequest
from .._session.pending_requests import UNATTENDED
from ..errors import InstanceFailed, LaunchError, PieTimeoutError
from ..events import Event
from ..instance import Instance

if TYPE_CHECKING:
    from .._connection.manager import ConnectionManager
    from .._connection.validation import Arguments
    from .._protocol.messages import Answer
    from .._session.probes import Silence
    from .._support.signal_safe_queue import SignalSafeQueue
    from .._support.time_limits import TimeLimit
    from ..events import CompletedInstance, LaunchRecord
    from .program_reference import ProgramReference

__all__ = ["Launch", "send_all"]

#: The one key of Launch._outcome.
_INSTANCE = "instance"


def send_all(launches: Sequence[Launch], messages: Sequence[bytes], limit: TimeLimit) -> None:
    """Send the messages of launches on one connection in one write. Blocks only while the server does not read."""
    requests = [launch.request for launch in launches]
    launches[0].session.request_all(requests, messages, limit.deadline())


class Launch:
    """One launch: its request, and then its instance.

    Args:
        manager: the client's connection manager.
        method: the client's method, for error messages.
        program: what to launch.
        args: the instance's arguments, as they are sent.
        limit: how long the server's answer may take.
        done: gets this launch when it is refused or fails, and when its instance has ended or has met an error.

    Attributes:
        limit: see above.
        is_terminated: whether the server was asked to terminate the instance.

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
        self._manager = manager
        self.session = session = connection.session
        self.request = PendingRequest(
            method, (session.protocol.launch_answer,), self._make_instance, self._report
        )
        self._program = program
        self._program_hash = program.hash
        self._program_name = program.name
        if program.name is not None:
            # What this client uploaded under a name of its own is known by its hash to some servers.
            self._program_hash = connection.programs.hash_of(program.name)
        if self._program_hash is not None:
            self._by_hash = connection.programs.name_of(self._program_hash, method, limit)
        self._args: list[str] | dict[str, Any] = args
        self._done = done
        # The instance, once there is one; None once nobody wants it any more. The reader thread brings the one,
        # another thread the other, and dict.setdefault() is atomic: whoever comes second finds what the first one
        # left, and terminates the instance.
        self._outcome: dict[str, Instance | None] = {}
        self._began = monotonic()
        self.limit = limit
        self.is_terminated = False

    # --- the request --------------------------------------------------------------------------------------

    def send(self) -> None:
        """Send the request. Blocks only while the server does not read.

        Raises:
            TypeError, ValueError: the arguments can't be sent to this server.
            PieTimeoutError: the request could not be sent in time.
            PieConnectionError: the connection is lost.
        """
        try:
            self.session.request(self.request, self.encode(), self.limit.deadline())
        except Exception:
            self.give_up()
            raise

    def encode(self) -> bytes:
        """Register the request, and return its message."""
        message = self._encode(self.session.router.pending.add(self.request))
        self._args = []  # a request that is never answered is kept for long
        return message

    def _encode(self, corr_id: int) -> bytes:
        protocol = self.session.protocol
        if self._program_hash is not None:
            return protocol.launch(corr_id, self._program_hash, self._by_hash, self._args, False)
        assert self._program_name is not None
        return protocol.launch_from_registry(corr_id, self._program_name, self._args, False)

    def _make_instance(self, answer: Answer) -> None:
        # In the reader thread, which may lose the connection the next moment: a reconnection attaches to those
        # instances that somebody has claimed by then.
        events = self.session.router.add_instance(answer.text, EventQueue())
        instance = Instance(self._manager, self.session, answer.text, events)
        if self._outcome.setdefault(_INSTANCE, instance) is None:
            self._post_termination(instance)

    def _report(self) -> None:
        """Put the launch into ``done``, now or at the end of its instance. In the reader thread."""
        if self._done is None:
            return
        instance = self.instance
        if instance is None:
            self._done.put(self)
        else:
            instance._call_at_end(partial(self._done.put, self))

    @property
    def settled(self) -> bool:
        """Whether the server has answered, or can't any more."""
        return self.request.settled

    def wait(self, deadline: float | None) -> bool:
        """Block until the launch is answered, or the deadline. Return whether it is."""
        return self.request.wait(deadline)

    def give_up(self) -> None:
        """Wait for the answer no more. An instance that it brings after all is terminated; see :meth:`drop`."""
        self.session.router.pending.remove(self.request)
        self.drop()

    def record(self, args: Arguments) -> LaunchRecord:
        """Return what is to be remembered of it; ``args`` are the arguments, as the user gave them."""
        return self._program.launch_record(args, self._began)

    def check(self) -> None:
        """Raise if the launch did not succeed. Only when it is settled.

        Raises:
            LaunchError: the server refused.
            PieConnectionError: the connection was lost before the answer came.
            ProtocolError: the answer makes no sense.
        """
        answer: Any = self.request.result()
        if not answer.ok:
            raise LaunchError(self.request.name, answer.text)

    # --- the instance -------------------------------------------------------------------------------------

    @property
    def instance(self) -> Instance | None:
        """The instance, once the server has told of it, until :meth:`drop`."""
        return self._outcome.get(_INSTANCE)

    def completed(self, args: Arguments = ()) -> CompletedInstance[Any]:
        """Return what the instance has sent, once it has ended.

        Args:
            args: the arguments, as the user gave them.

        Raises:
            InstanceFailed: the instance did not complete.
            PieError, PieConnectionError: there was no launch, or its connection was lost.
        """
        self.check()
        instance = self.instance
        assert instance is not None
        completed = instance._drain(self.record(args))
        if completed.event is not Event.Completed:
            raise InstanceFailed(instance.id, completed)
        return completed

    @property
    def is_running(self) -> bool:
        """Whether there is an instance whose end has not arrived."""
        instance = self.instance
        return instance is not None and instance._is_running

    def watch(self) -> Silence | None:
        """Return what is known of the instance's silence; None if there is no instance."""
        instance = self.instance
        return None if instance is None else instance._watch()

    def timed_out(self, timeout: float) -> PieTimeoutError:
        """Return the error to raise when the instance has not ended within so many seconds."""
        instance = self.instance
        if instance is not None:
            return instance._timed_out(f"not ended within {timeout} s")
        return PieTimeoutError(f"{self.request.name}: no answer to a launch from the server within {timeout} s")

    # --- terminating it -----------------------------------------------------------------------------------

    def drop(self) -> None:
        """Let go of the instance: nobody wants its events. Terminate it if it runs and nobody has done that.

        An instance that an answer has yet to bring is terminated when it comes. Neither waits nor takes a lock
        that may be held: finalizers call it.
        """
        instance = self._outcome.setdefault(_INSTANCE, None)
        self._outcome[_INSTANCE] = None
        if instance is not None and instance._is_running and not self.is_terminated:
            self._post_termination(instance)

    def _post_termination(self, instance: Instance) -> None:
        """Have the instance terminated without waiting for anything, or knowing whether it was."""
        connection = self._manager.connection
        session = self.session
        if connection is not None and connection.session.router.has_instance(instance.id):
            session = connection.session
        session.post(session.protocol.terminate(UNATTENDED, instance.id))

    def check_process(self) -> None:
        """Raise ``PieConnectionError`` in a child that was forked."""
        self.session.check_process()

    def may_wait_here(self) -> bool:
        """See :meth:`Session.may_wait_here`."""
        return self.session.may_wait_here()

    def wait_for_instance(self, limit: TimeLimit) -> Instance | None:
        """Return the instance, if it runs. Waits for the launch's answer if need be."""
        if self.request.corr_ids and not self.wait(limit.deadline()):
            self.give_up()
        return self.instance if self.is_running else None
