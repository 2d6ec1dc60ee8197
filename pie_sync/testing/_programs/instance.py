"""One running program and its life: attached, detached, finished.

Nothing here knows how an output looks on the wire: see the dialect for that.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Callable, NamedTuple, Protocol, Union

from ...events import Event
from .mailbox import Mailbox
from .records import Records

__all__ = ["Instance", "Launch", "Output", "Program", "Receiver"]

SIGNAL_TERMINATION = "Signal termination"

Data = Union[str, bytes]
Outcome = tuple[Event, str]


class Output(NamedTuple):
    """One event of one instance; ``data`` is bytes for a blob and text for everything else."""

    instance: Instance
    event: Event
    data: Data


class Receiver(Protocol):
    """Where the output of an attached instance goes: in practice, a connection."""

    def deliver(self, output: Output) -> bool:
        """Take one output without blocking; False when the receiver is gone, and the output stays the caller's."""

    def wait_for_room(self, give_up: Callable[[], bool]) -> None:
        """Block while too much is queued, but no longer than until :meth:`wake` is called and ``give_up()``."""

    def wake(self) -> None:
        """Make waiting calls look at their ``give_up`` again."""


class Program(Protocol):
    """Something that can be launched any number of times."""

    def run(self, instance: Instance) -> Outcome:
        """Run to the end, in the instance's own thread.

        Returns:
            The terminal event and its text. It is ignored when the instance was terminated meanwhile.
        """


class Launch(NamedTuple):
    """What shall run, and for whom.

    Attributes:
        program: what to run.
        requested: how the client named it.
        program_name: what the program is told that it is called.
        arguments: what the program is told besides.
        username: who may see the instance.
        is_json: whether the one argument is a JSON text.
        prints: whether anybody will ever get what the program prints.
    """

    program: Program
    requested: str
    program_name: str
    arguments: Sequence[str]
    username: str
    is_json: bool = False
    prints: bool = True


class Instance:
    """A launched program. All methods may be called from any thread.

    Args:
        launch: what was launched.
        receiver: where its output goes; None for a detached instance.
        records: where to note what becomes of it.
        on_spent: called when nobody needs the instance any longer, see :attr:`spent`.
        keeps_output: whether its output is kept while there is no receiver (in memory, without a limit), or lost.

    Attributes:
        id: its UUID, as text.
        program_name: what the program calls itself (a WebAssembly program's ``argv[0]``).
        arguments: what it was launched with.
        is_json: whether that is one JSON text.
        username: whose it is.
        mailbox: what its clients sent it.
    """

    def __init__(
        self,
        launch: Launch,
        receiver: Receiver | None,
        records: Records,
        on_spent: Callable[[Instance], None],
        *,
        keeps_output: bool = True,
    ) -> None:
        self.id = str(uuid.uuid4())
        self.program_name = launch.program_name
        self.arguments = list(launch.arguments)
        self.is_json = launch.is_json
        self.username = launch.username
        self._records = records
        self._record = records.begin(
            self.id, launch.requested, self.username, self.arguments, is_json=self.is_json
        )
        self.mailbox = Mailbox(partial(records.receive, self._record))
        self._program = launch.program
        self._prints = launch.prints
        self._keeps_output = keeps_output
        self._on_spent = on_spent
        self._launched_at = time.monotonic()
        self._end_is_told = threading.Event()
        # Guards everything below and puts outputs into one order. The receiver is called with it held, which
        # is why a receiver must not block; _on_spent is called without it.
        self._lock = threading.Lock()
        self._receiver = receiver
        self._buffer: list[tuple[Event, Data]] = []
        self._ended = False
        self._terminated = False
        self._interrupt: Callable[[], None] | None = None

    @property
    def elapsed_secs(self) -> int:
        """Whole seconds since the launch."""
        return int(time.monotonic() - self._launched_at)

    @property
    def status(self) -> str:
        """``Attached``, ``Detached`` or ``Finished``."""
        with self._lock:
            if self._ended:
                return "Finished"
            return "Detached" if self._receiver is None else "Attached"

    @property
    def terminated(self) -> bool:
        """Whether :meth:`terminate` ended it."""
        return self._terminated

    @property
    def spent(self) -> bool:
        """Whether it has ended and everything was handed to a receiver: nobody needs it any longer."""
        return self._ended and not self._buffer

    def is_attached_to(self, receiver: Receiver) -> bool:
        """Whether its output goes to ``receiver``."""
        return self._receiver is receiver

    def run(self) -> None:
        """Run the program to its end and tell how it ended."""
        try:
            event, text = self._program.run(self)
        except Exception as error:  # a fault of the server, not of the program
            event, text = Event.ServerError, f"{type(error).__name__}: {error}"
        self.emit(event, text)
        self._end_is_told.set()

    def wait_for_end(self, timeout: float) -> None:
        """Block until the last output was handed over, or for ``timeout`` seconds."""
        self._end_is_told.wait(timeout)

    def emit(self, event: Event, data: Data) -> None:
        """Hand an output to the receiver; without one keep it until there is one, or lose it.

        Blocks while the receiver has too much to send already. Does nothing once the instance has ended.
        """
        if not self._prints and event in (Event.Stdout, Event.Stderr):
            return
        receiver = self._receiver
        if receiver is not None:
            receiver.wait_for_room(lambda: self._ended)
        with self._lock:
            if self._ended:
                return
            self.mailbox.has_spoken = True
            if event.terminal:
                self._end(event, str(data))
            self._put(event, data)
        if self.spent:
            self._on_spent(self)

    def attach(self, receiver: Receiver, announce: Callable[[], None]) -> bool:
        """Make ``receiver`` get what is buffered, and everything from now on.

        Args:
            receiver: where the output shall go.
            announce: called once, before the first output is handed over; must not block.

        Returns:
            False, without calling ``announce``, when there is a receiver already.
        """
        with self._lock:
            if self._receiver is not None:
                return False
            announce()
            buffered, self._buffer = self._buffer, []
            self._receiver = receiver
            for event, data in buffered:
                self._put(event, data)
            if self.spent:
                self._receiver = None
        if self.spent:
            self._on_spent(self)
        return True

    def detach(self, receiver: Receiver, unsent: Sequence[Output] = ()) -> None:
        """Let the output have no receiver from now on; ``unsent`` is what the last one could not send."""
        with self._lock:
            if self._keeps_output:
                self._buffer[:0] = [(output.event, output.data) for output in unsent]
            if self._receiver is receiver:
                self._receiver = None

    def terminate(self) -> None:
        """End it, telling the receiver at once, whatever the program is doing. Never blocks.

        The program's thread ends as soon as the program notices: at its next call, or, waiting, at once.
        """
        with self._lock:
            if self._ended:
                return
            self._terminated = True
            # Before the end is told: when somebody knows of it, the program receives nothing any more.
            self.mailbox.close()
            self._end(Event.Aborted, SIGNAL_TERMINATION)
            if self._receiver is not None:
                self._put(Event.Aborted, SIGNAL_TERMINATION)
                self._receiver.wake()
            if self._interrupt is not None:
                self._interrupt()

    def on_terminate(self, interrupt: Callable[[], None] | None) -> None:
        """Have ``interrupt`` called when the instance is terminated, or now if it was; None takes it back.

        When this returns, an earlier ``interrupt`` is not running and never will.
        """
        with self._lock:
            self._interrupt = interrupt
            if interrupt is not None and self._terminated:
                interrupt()

    def _end(self, event: Event, text: str) -> None:
        """Note the end; whoever is told of it later finds it in the records."""
        self._ended = True
        self._records.finish(self._record, event, text)

    def _put(self, event: Event, data: Data) -> None:
        if self._receiver is not None and self._receiver.deliver(Output(self, event, data)):
            return
        if self._keeps_output:
            self._buffer.append((event, data))
