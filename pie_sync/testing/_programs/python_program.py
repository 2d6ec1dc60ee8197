"""Programs that are Python functions."""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any, Callable

from ...events import Blob, Event
from .arguments import parse_input
from .instance import Instance
from .mailbox import Terminated

__all__ = ["ProgramContext", "PythonProgram"]

logger = logging.getLogger("pie_sync.testing")

ProgramFunction = Callable[["ProgramContext"], Any]


class ProgramContext:
    """The one argument of a program's function: its arguments, and how it sends and receives.

    All methods may be called from any thread of the program. Those that send block while the attached client does
    not read and 1 MiB is queued for it. Without an attached client they do not block: the instance protocol keeps
    what is sent, the process protocol drops it. Once the instance is terminated, every method raises an internal
    signal that is no :class:`Exception`, also in threads that already wait. Let it pass.

    Attributes:
        args: the arguments of the launch; on the process protocol the one JSON text.
        input: the value of that JSON text (None if the text is not JSON); None on the instance protocol.
        instance_id: the instance's UUID.
        username: the user who launched the instance.
    """

    def __init__(self, instance: Any) -> None:
        self._instance: Instance = instance  # (its type is no part of the API)
        self.args: list[str] = list(instance.arguments)
        self.input: Any = parse_input(self.args[0]) if instance.is_json else None
        self.instance_id: str = instance.id
        self.username: str = instance.username

    def send(self, message: str) -> None:
        """Send a message: the client's ``Event.Message``."""
        self._emit_text(Event.Message, message)

    def stdout(self, text: str) -> None:
        """Print to the standard output, without adding a newline: the client's ``Event.Stdout``."""
        self._emit_text(Event.Stdout, text)

    def stderr(self, text: str) -> None:
        """Print to the standard error, without adding a newline: the client's ``Event.Stderr``."""
        self._emit_text(Event.Stderr, text)

    def send_blob(self, blob: bytes, name: str | None = None) -> None:
        """Send bytes: the client's ``Event.Blob``. As with a real server, an empty blob never arrives.

        Args:
            blob: the bytes.
            name: the blob's name; the instance protocol has no field for it, and drops it.
        """
        data = bytes(memoryview(blob))
        if name is not None and not isinstance(name, str):
            raise TypeError(f"expected a str as the blob's name, not {type(name).__name__}")
        self._check()
        if data:
            self._instance.emit(Event.Blob, data if name is None else Blob(data, name))

    def receive(self, timeout: float | None = None) -> str:
        """Return the client's next message. Blocks until there is one.

        Args:
            timeout: longest wait in seconds; None, the default, waits without a limit, 0 does not wait.

        Raises:
            TimeoutError: no message came in time.
        """
        return self._instance.mailbox.get_message(timeout)

    def receive_blob(self, timeout: float | None = None) -> bytes:
        """Return the client's next blob. Blocks until there is one.

        On the process protocol a blob is lost if it arrives while the program does not wait in this method. So
        let the program send a message first, and let the client send the blob after that message.

        Args:
            timeout: longest wait in seconds; None, the default, waits without a limit, 0 does not wait.

        Raises:
            TimeoutError: no blob came in time.
        """
        return self._instance.mailbox.get_blob(timeout)

    def _emit_text(self, event: Event, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"expected a str, not {type(text).__name__}")
        self._check()
        self._instance.emit(event, text)

    def _check(self) -> None:
        if self._instance.terminated:
            raise Terminated


class PythonProgram:
    """A function that is called once for each instance."""

    def __init__(self, function: ProgramFunction) -> None:
        self._function = function

    def run(self, instance: Instance) -> tuple[Event, str]:
        """Call the function. Its return value completes the instance, its exception is the exception event."""
        try:
            result = self._function(ProgramContext(instance))
            text = _as_text(result, as_json=instance.is_json)
        except Terminated:
            return Event.Aborted, ""  # ignored: terminate() has already sent this event
        except BaseException as error:  # SystemExit ends the instance, not the thread of the pool
            logger.debug("instance %s failed", instance.id, exc_info=True)
            return Event.Exception, "".join(traceback.format_exception_only(type(error), error)).strip()
        return Event.Completed, text


def _as_text(result: object, *, as_json: bool) -> str:
    if result is None:
        return ""
    if isinstance(result, str):
        return result
    if as_json:
        return json.dumps(result)
    raise TypeError(f"a program must return a str or None, not {type(result).__name__}")
