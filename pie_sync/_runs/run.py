"""``client.run``: one instance from its launch to its end, in the manner of ``subprocess.run``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from .._connection.validation import check_args
from .._support.time_limits import DEFAULT, NO_LIMIT, TimeLimit, Timeout, check_timeout, time_left
from ..errors import InstanceEnded, InstanceFailed, PieConnectionError, PieError, PieTimeoutError
from ..events import Event
from .launch import Launch
from .launcher import Launcher
from .program_reference import GivenProgram
from .termination import terminate_all

if TYPE_CHECKING:
    from .._connection.manager import ConnectionManager
    from .._connection.validation import Arguments
    from ..events import CompletedInstance, Data, LaunchRecord
    from ..instance import Instance
    from .launcher import RecentLaunchers
    from .program_reference import Program

__all__ = ["Input", "OnEvent", "run"]

_Item = Union[str, bytes, bytearray, memoryview]

#: What an instance is sent: a message, a blob, or several of both.
Input = Union[_Item, Iterable[_Item], None]

OnEvent = Optional[Callable[[Event, "Data"], object]]

#: For how many seconds to wait for the end of an instance that was terminated because its time was over.
_DRAIN_TIMEOUT = 1.0


def run(
    manager: ConnectionManager,
    launchers: RecentLaunchers,
    program: Program,
    args: Arguments = (),
    *,
    input: Input = None,  # noqa: A002 - the name that subprocess.run gave it
    timeout: float | None = None,
    check: bool = True,
    on_event: OnEvent = None,
) -> CompletedInstance[Any]:
    """Implement :meth:`PieClient.run`, which says what the arguments are, and the errors."""
    items, checked = _items(input), check_args(args)
    limit = NO_LIMIT if timeout is None else TimeLimit(check_timeout(timeout))

    def left() -> Timeout:
        """Return the time limit of a request: what is left of that of the whole call, else the client's own."""
        if timeout is None:
            return DEFAULT
        seconds = limit.left()
        if seconds == 0:
            raise limit.expired("run", "not done")
        return seconds

    arguments = checked
    launcher = launchers.get(program)
    if launcher is None:
        given = GivenProgram(program)
        arguments = given.check_args(checked)
        reference = given.find(manager, "run", left)
        if given.function is not None:
            limit = TimeLimit(timeout)  # what its upload takes does not count
        launcher = Launcher(manager, "run", reference, manager.limit(DEFAULT) if timeout is None else limit)
        launchers.keep(program, launcher)
    only_result = input is None and on_event is None
    launch = Launch(launcher, manager.limit(DEFAULT) if timeout is None else limit, takes_end=only_result)
    conversation = None
    try:
        launch.send(arguments)
        if not launch.wait(launch.limit.deadline()):
            raise launch.limit.expired("run", "no answer to the launch from the server")
        launch.check()
        if only_result and not launch.is_running:
            completed = launch.collect(checked)  # it has ended already
        else:
            assert launch.instance is not None
            conversation = _Conversation(launch.instance, launch.record(checked), limit, on_event)
            conversation.send_input(items, left)
            completed = conversation.receive_all()
    except PieTimeoutError as error:
        terminate_all([launch])
        error.input = checked
        error.completed = None if conversation is None else conversation.drain()
        raise
    except BaseException as error:  # also Ctrl-C, and what on_event raises
        terminate_all([launch])
        if isinstance(error, PieError):
            error.input = checked
        raise
    if check and completed.event is not Event.Completed:
        raise InstanceFailed(completed.id, completed)
    return completed


class _Conversation:
    """Sends the input of an instance and receives its events, up to its end."""

    def __init__(self, instance: Instance, record: LaunchRecord, limit: TimeLimit, on_event: OnEvent) -> None:
        self._instance = instance
        self._record = record
        self._limit = limit
        self._deadline = limit.deadline()
        self._on_event = on_event
        self._received: list[tuple[Event, Data]] = []

    def send_input(self, items: Iterable[_Item], left: Callable[[], Timeout]) -> None:
        """Send the items one by one, receiving in between. Stop when the instance has ended."""
        try:
            for item in items:
                if isinstance(item, str):
                    self._instance.send(item, timeout=left())
                elif isinstance(item, (bytes, bytearray, memoryview)):
                    self._instance.upload_blob(item, timeout=left())
                else:
                    raise TypeError(f"input must consist of str and bytes, not {type(item).__name__}")
                while self._has_event():
                    pass
        except InstanceEnded:
            pass

    def receive_all(self) -> CompletedInstance[Any]:
        """Receive events up to the end of the instance."""
        try:
            while not self._receive(time_left(self._deadline)).terminal:
                pass
        except InstanceEnded:  # while input was sent
            pass
        return self._instance._completed(self._received, self._record)

    def drain(self) -> CompletedInstance[Any] | None:
        """Return all events of an instance that was terminated; None if its end does not come within a second."""
        deadline = monotonic() + _DRAIN_TIMEOUT
        try:
            while True:
                self._received.append(self._instance.recv(time_left(deadline)))
        except InstanceEnded:
            return self._instance._completed(self._received, self._record)
        except (PieError, PieConnectionError):
            return None

    def _has_event(self) -> bool:
        try:
            self._receive(0)
        except PieTimeoutError:
            if self._deadline is not None and monotonic() >= self._deadline:
                raise self._expired() from None
            return False
        return True

    def _receive(self, timeout: float | None) -> Event:
        if timeout == 0 and self._deadline is not None and monotonic() >= self._deadline:
            raise self._expired()  # also while events come faster than they are received
        try:
            event, data = self._instance.recv(timeout)
        except PieTimeoutError:
            raise self._expired() from None
        self._received.append((event, data))
        if self._on_event is not None:
            self._on_event(event, data)
        return event

    def _expired(self) -> PieTimeoutError:
        error = self._limit.expired("run", f"instance {self._instance.id} has not ended", self._instance._remark())
        error.instance_id = self._instance.id
        return error


def _items(given: Any) -> Iterable[_Item]:
    if given is None:
        return ()
    if isinstance(given, (str, bytes, bytearray, memoryview)):
        return (given,)
    if isinstance(given, Mapping):
        raise TypeError("input must be a message, not a mapping: json.dumps(input) makes a text of it")
    if not isinstance(given, Iterable):
        raise TypeError(f"input must be a message, a blob, or several of them, not {type(given).__name__}")
    return given
