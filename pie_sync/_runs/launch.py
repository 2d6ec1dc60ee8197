"""A launch whose answer no thread waits for, so that one thread can have many of them on their way."""

from __future__ import annotations

import threading
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Union

from .._session.event_queue import EventQueue
from .._session.pending_request import PendingRequest
from .._session.pending_requests import UNATTENDED
from ..errors import InstanceFailed, LaunchError, PieTimeoutError
from ..events import CompletedInstance, Event, LaunchRecord
from ..instance import Instance

if TYPE_CHECKING:
    from .._protocol.messages import Answer
    from .._session.probes import Silence
    from .._support.signal_safe_queue import SignalSafeQueue
    from .._support.time_limits import TimeLimit
    from .launcher import Launcher

    _Outcome = Union[EventQueue, tuple[list[tuple[Event, str]], float], None]

__all__ = ["Launch"]

#: The one key of Launch._outcome.
_EVENTS = "events"


class Launch(PendingRequest):
    """One launch: its request, and then its instance. :class:`Instance` is made only where somebody needs one.

    It is the request itself: another object that knows this one would make a cycle of each launch, which only the
    garbage collector frees.

    Args:
        launcher: what it has in common with others.
        limit: how long the server's answer may take.
        done: gets this launch when it is refused or fails, and when its instance has ended or has met an error.
        takes_end: whether :meth:`collect` is all that is wanted of an instance that has ended: then a short one
            gets no queue, and is no :attr:`instance`.

    Attributes:
        limit, takes_end: see above.
        is_terminated: whether the server was asked to terminate the instance.
    """

    __slots__ = (
        "_began",
        "_done",
        "_instance",
        "_instance_id",
        "_launcher",
        "_outcome",
        "is_terminated",
        "limit",
        "takes_end",
    )

    def __init__(
        self,
        launcher: Launcher,
        limit: TimeLimit,
        done: SignalSafeQueue[Launch] | None = None,
        *,
        takes_end: bool = True,
    ) -> None:
        # Not super().__init__(), which sets what are methods here.
        self.name = launcher.method
        self.kinds = launcher.kinds
        self.is_probe = False
        self.corr_ids = ()
        self.is_sent = False
        self.answer = None
        self.error = None
        self._unsettled = threading.Lock()
        self._unsettled.acquire()
        self._launcher = launcher
        self._done = done
        # The instance's events, once there is one; None once nobody wants them any more. The reader thread brings
        # the one, another thread the other, and dict.setdefault() is atomic: whoever comes second finds what the
        # first one left, and terminates the instance. Of an instance that had no queue: all its events, and when
        # it ended.
        self._outcome: dict[str, _Outcome] = {}
        self._instance_id = ""
        self._instance: Instance[Any] | None = None
        self._began = monotonic()
        self.limit = limit
        self.takes_end = takes_end
        self.is_terminated = False

    # --- the request --------------------------------------------------------------------------------------

    def send(self, args: list[str] | dict[str, Any]) -> None:
        """Send the request. Blocks only while the server does not read. :meth:`Launcher.send` sends many.

        Args:
            args: the instance's arguments, as they are sent.

        Raises:
            TypeError, PieValueError: the arguments can't be sent to this server.
            PieTimeoutError: the request could not be sent in time.
            PieConnectionError: the connection is lost.
        """
        session = self._launcher.session
        try:
            corr_id = session.router.pending.add(self)
            session.request(self, self._launcher.encode(corr_id, args), self.limit.deadline())
        except Exception:
            self.give_up()
            raise

    def on_success(self, answer: Answer) -> None:
        """Give the instance its queue. In the reader thread."""
        # It may lose the connection the next moment: a reconnection attaches to those instances whose queues
        # nobody has forgotten.
        events = EventQueue()
        self._instance_id = answer.text
        self._launcher.session.router.add_instance(answer.text, events)
        if self._outcome.setdefault(_EVENTS, events) is None:
            self._let_go(events)

    def on_end(self, answer: Answer, events: list[tuple[Event, str]]) -> None:
        """Take the instance, which has ended. In the reader thread."""
        self._instance_id = answer.text
        self._outcome.setdefault(_EVENTS, (events, monotonic()))

    def on_settled(self) -> None:
        """Put the launch into ``done``, now or at the end of its instance. In the reader thread."""
        done = self._done
        if done is None:
            return
        events = self._outcome.get(_EVENTS)
        if type(events) is EventQueue:
            events.call_at_end(partial(self._launcher.put, done, self))
        else:
            self._launcher.put(done, self)

    def give_up(self) -> None:
        """Wait for the answer no more. An instance that it brings after all is terminated; see :meth:`drop`."""
        self._launcher.session.router.pending.remove(self)
        self.drop()

    def record(self, args: list[str] | dict[str, Any]) -> LaunchRecord:
        """Return what is to be remembered of it; ``args`` are the arguments, as the user gave them."""
        return LaunchRecord(args, self._began, self._launcher.result_form)

    def check(self) -> None:
        """Raise if the launch did not succeed. Only when it is settled.

        Raises:
            LaunchError: the server refused.
            PieConnectionError: the connection was lost before the answer came.
            ProtocolError: the answer makes no sense.
        """
        answer: Any = self.result()
        if not answer.ok:
            raise LaunchError(self.name, answer.text)

    # --- the instance -------------------------------------------------------------------------------------

    @property
    def instance(self) -> Instance[Any] | None:
        """The instance, once the server has told of it, until :meth:`drop`. Only for the thread that launches.

        None also if it has ended and needed no queue: see ``takes_end``.
        """
        events = self._outcome.get(_EVENTS)
        if type(events) is not EventQueue:
            return None
        if self._instance is None:
            launcher = self._launcher
            self._instance = Instance(launcher.manager, launcher.session, self._instance_id, events)
        return self._instance

    def completed(self, args: list[str] | dict[str, Any] | None = None) -> CompletedInstance[Any]:
        """Return what the instance has sent, once it has ended.

        Args:
            args: the arguments, as the user gave them.

        Raises:
            InstanceFailed: the instance did not complete.
            PieError, PieConnectionError: there was no launch, or its connection was lost.
        """
        self.check()
        completed = self.collect([] if args is None else args)
        if completed.event is not Event.Completed:
            raise InstanceFailed(self._instance_id, completed)
        return completed

    def collect(self, args: list[str] | dict[str, Any]) -> CompletedInstance[Any]:
        """Return what the instance has sent, once it has ended, however that was.

        Raises:
            PieError, PieConnectionError: events are lost, or the connection was.
        """
        outcome = self._outcome[_EVENTS]
        assert outcome is not None
        events, ended = outcome if isinstance(outcome, tuple) else (outcome.drain(), outcome.ended)
        return CompletedInstance.from_events(events, self._instance_id, self.record(args), ended)

    @property
    def is_running(self) -> bool:
        """Whether there is an instance whose end has not arrived."""
        events = self._outcome.get(_EVENTS)
        return type(events) is EventQueue and events.terminal is None

    def watch(self) -> Silence | None:
        """Return what is known of the instance's silence; None if there is no instance."""
        instance = self.instance
        return None if instance is None else instance._watch()

    def timed_out(self, timeout: float) -> PieTimeoutError:
        """Return the error to raise when the instance has not ended within so many seconds."""
        instance = self.instance
        if instance is not None:
            return instance._timed_out(f"not ended within {timeout} s")
        return PieTimeoutError(f"{self.name}: no answer to a launch from the server within {timeout} s")

    # --- terminating it -----------------------------------------------------------------------------------

    def drop(self) -> None:
        """Let go of the instance: nobody wants its events. Terminate it if it runs and nobody has done that.

        An instance that an answer has yet to bring is terminated when it comes. Neither waits nor takes a lock
        that may be held: finalizers call it.
        """
        events: _Outcome = self._outcome.setdefault(_EVENTS, None)
        self._outcome[_EVENTS] = None
        if isinstance(events, EventQueue):
            self._let_go(events)

    def _let_go(self, events: EventQueue) -> None:
        if events.terminal is None and not self.is_terminated:
            self._post_termination()
        instance, self._instance = self._instance, None
        if instance is None:  # else the instance forgets them, when nobody holds it
            self._launcher.manager.forget(self._instance_id, events)

    def _post_termination(self) -> None:
        """Have the instance terminated without waiting for anything, or knowing whether it was."""
        connection = self._launcher.manager.connection
        session = self._launcher.session
        if connection is not None and connection.session.router.has_instance(self._instance_id):
            session = connection.session
        session.post(session.protocol.terminate(UNATTENDED, self._instance_id))

    def check_process(self) -> None:
        """Raise ``PieConnectionError`` in a child that was forked."""
        self._launcher.session.check_process()

    def may_wait_here(self) -> bool:
        """See :meth:`Session.may_wait_here`."""
        return self._launcher.session.may_wait_here()

    def wait_for_instance(self, limit: TimeLimit) -> Instance[Any] | None:
        """Return the instance, if it runs. Waits for the launch's answer if the server may have the request."""
        if self.corr_ids and not (self.is_sent and self.wait(limit.deadline())):
            self.give_up()
        return self.instance if self.is_running else None
