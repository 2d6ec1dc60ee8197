"""An instance: a launched program and its state (attached, detached, finished).

The dialects encode its output; nothing here knows how messages look on the wire.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Callable, NamedTuple, Protocol, Union

from ...events import Event
from .kept_output import KeptOutput
from .mailbox import Mailbox
from .records import Records

__all__ = ["Instance", "Launch", "Loss", "Output", "Program", "Receiver"]

SIGNAL_TERMINATION = "Signal termination"

Data = Union[str, bytes]
Outcome = tuple[Event, str]


class Output(NamedTuple):
    """One event of one instance; ``data`` is bytes for a blob and a str for every other event."""

    instance: Instance
    event: Event
    data: Data


class Receiver(Protocol):
    """Takes the output of attached instances: the queue of a client's connection."""

    def deliver(self, output: Output) -> bool:
        """Take one output without blocking; return False if it was not taken, as the connection is lost."""

    def wait_until_writable(self, cancelled: Callable[[], bool]) -> None:
        """Block while too much is queued, until ``cancelled()`` is true after a call of :meth:`wake`."""

    def wake(self) -> None:
        """Make waiting calls check their ``cancelled`` again."""


class Program(Protocol):
    """A program, which can be launched any number of times."""

    def run(self, instance: Instance) -> Outcome:
        """Run the program to its end, in the instance's own thread.

        Returns:
            The terminal event and its text. They are ignored if the instance was terminated meanwhile.
        """


class Launch(NamedTuple):
    """A launch request.

    Attributes:
        program: the program to run.
        requested: the program's name or hash, as the client wrote it.
        program_name: the program's name, as the program gets it.
        arguments: the program's arguments.
        username: the user who launches it, and who may see the instance.
        is_json: whether the one argument is a JSON text.
        captures_output: whether standard output and error are sent to clients; otherwise they are dropped.
    """

    program: Program
    requested: str
    program_name: str
    arguments: Sequence[str]
    username: str
    is_json: bool = False
    captures_output: bool = True


class Loss(NamedTuple):
    """What the server loses of an instance's output, since the program ran before the server knew the instance."""

    end: bool = False
    """The end. A server that keeps output (:class:`Instance`) forgets the instance; others go on listing it."""
    first_output: bool = False
    """The first output before the end; if the server keeps output, the first message or blob."""


NO_LOSS = Loss()


class Instance:
    """A launched program. All methods may be called from any thread.

    Args:
        launch: the launch request.
        receiver: takes its output; None for a detached instance.
        records: the server's records, to which the instance adds its own.
        on_drained: called when the instance becomes :attr:`drained`, and can be forgotten.
        keeps_output: whether output without a receiver is kept, as :class:`KeptOutput` says, or dropped.
        loss: what is lost of its output.

    Attributes:
        id: its UUID, as a str.
        program_name: the program's name, as the program gets it (a WebAssembly program's ``argv[0]``).
        arguments: the program's arguments.
        is_json: whether ``arguments`` is one JSON text.
        username: the user who launched it.
        mailbox: the messages and blobs of its clients.
    """

    def __init__(
        self,
        launch: Launch,
        receiver: Receiver | None,
        records: Records,
        on_drained: Callable[[Instance], None],
        *,
        keeps_output: bool = True,
        loss: Loss = NO_LOSS,
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
        self._captures_output = launch.captures_output
        self._keeps_output = keeps_output
        self._loss = loss
        self._on_drained = on_drained
        self._launched_at = time.monotonic()
        self._end_delivered = threading.Event()
        # Guards everything below and keeps outputs in one order. It is held while the receiver is called, so
        # a receiver must not block. _on_drained is called without it.
        self._lock = threading.Lock()
        self._receiver = receiver
        self._kept = KeptOutput()
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
        """Whether :meth:`terminate` has ended the instance."""
        return self._terminated

    @property
    def drained(self) -> bool:
        """Whether the instance has ended and a receiver has taken all its output, so that it can be forgotten."""
        return self._ended and not self._kept

    def is_attached_to(self, receiver: Receiver) -> bool:
        """Whether ``receiver`` takes the output."""
        return self._receiver is receiver

    def run(self) -> None:
        """Run the program to its end and send its terminal event."""
        try:
            event, text = self._program.run(self)
        except Exception as error:  # a fault of the server, not of the program
            event, text = Event.ServerError, f"{type(error).__name__}: {error}"
        self.emit(event, text)
        self._end_delivered.set()

    def wait_for_end(self, timeout: float) -> None:
        """Block until the terminal event was handed over, but for ``timeout`` seconds at most."""
        self._end_delivered.wait(timeout)

    def emit(self, event: Event, data: Data) -> None:
        """Hand an output to the receiver. Without a receiver, keep or drop it, as ``keeps_output`` says.

        Blocks while too much is queued for the receiver. Does nothing once the instance has ended.
        """
        if not self._captures_output and event in (Event.Stdout, Event.Stderr):
            return
        receiver = self._receiver
        if receiver is not None:
            receiver.wait_until_writable(lambda: self._ended)
        with self._lock:
            if self._ended:
                return
            self.mailbox.has_sent_output = True
            if event.terminal:
                self._records.finish(self._record, event, str(data))
                # Only a server that knows of the end takes the instance off its list.
                self._ended = self._keeps_output or not self._loss.end
            if not self._loses(event):
                self._put(event, data)
        if self.drained:
            self._on_drained(self)

    def attach(self, receiver: Receiver, acknowledge: Callable[[], None]) -> bool:
        """Hand the kept output, and all later output, to ``receiver``.

        Args:
            receiver: takes the output from now on.
            acknowledge: called before the first output is handed over, to queue the answer; must not block.

        Returns:
            False, without a call of ``acknowledge``, if the instance already has a receiver.
        """
        with self._lock:
            if self._receiver is not None:
                return False
            acknowledge()
            self._receiver = receiver
            for event, data in self._kept.take():
                self._put(event, data)
            if self.drained:
                self._receiver = None
        if self.drained:
            self._on_drained(self)
        return True

    def detach(self, receiver: Receiver, unsent: Sequence[Output] = ()) -> None:
        """Remove ``receiver``; ``unsent`` is the output that it had taken but could not send."""
        with self._lock:
            if self._keeps_output:
                self._kept.prepend((output.event, output.data) for output in unsent)
            if self._receiver is receiver:
                self._receiver = None

    def terminate(self, acknowledge: Callable[[], None] | None = None) -> None:
        """End the instance, and send the receiver the event ``Aborted``. Never blocks.

        The program's thread ends at the program's next call into the server; a call that waits ends at once.

        Args:
            acknowledge: called before the event is handed over, to queue the answer; must not block.
        """
        with self._lock:
            if acknowledge is not None:
                acknowledge()
            if self._ended:
                return
            self._terminated = True
            # Close the mailbox before the event is sent: a client that knows of the end can rely on the program's
            # receiving nothing more.
            self.mailbox.close()
            self._ended = True
            self._records.finish(self._record, Event.Aborted, SIGNAL_TERMINATION)
            if self._receiver is not None:
                self._put(Event.Aborted, SIGNAL_TERMINATION)
                self._receiver.wake()
            if self._interrupt is not None:
                self._interrupt()

    def on_terminate(self, interrupt: Callable[[], None] | None) -> None:
        """Call ``interrupt`` when the instance is terminated, or now if it already is; None removes the callback.

        When this method returns, the earlier callback is not running and will not be called any more.
        """
        with self._lock:
            self._interrupt = interrupt
            if interrupt is not None and self._terminated:
                interrupt()

    def _loses(self, event: Event) -> bool:
        """Whether this output is lost."""
        if event.terminal:
            return self._loss.end
        waits_for_launch = self._keeps_output and event in (Event.Stdout, Event.Stderr)
        if not self._loss.first_output or waits_for_launch:
            return False
        self._loss = self._loss._replace(first_output=False)
        return True

    def _put(self, event: Event, data: Data) -> None:
        if self._receiver is not None and self._receiver.deliver(Output(self, event, data)):
            return
        if self._keeps_output:
            self._kept.add(event, data)
