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
    """What a Python program has to do with the world: the one argument of its function.

    All methods may be called from any thread of the program. Those that send block as long as the client that
    is attached takes nothing; without an attached client the server keeps what is sent. Once the instance is
    terminated every method, also one that is already waiting, raises an internal signal that is no
    :class:`Exception`: let it pass.

    Attributes:
        args: the arguments that the instance was launched with; on the process protocol the one JSON text.
        input: what that text says (a text that is no JSON says None); None on the instance protocol.
        instance_id: the instance's UUID.
        username: whose instance it is.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.args: list[str] = list(instance.arguments)
        self.input: Any = parse_input(self.args[0]) if instance.is_json else None
        self.instance_id = instance.id
        self.username = instance.username

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
            name: what to call them; the instance protocol has no place for that.
        """
        data = bytes(memoryview(blob))
        if name is not None and not isinstance(name, str):
            raise TypeError(f"expected a str as the blob's name, not {type(name).__name__}")
        self._check()
        if data:
            self._instance.emit(Event.Blob, data if name is None else Blob(data, name))

    def receive(self, timeout: float | None = None) -> str:
        """Return the client's next message, waiting for it.

        Args:
            timeout: seconds to wait at most; None waits without a limit, 0 not at all.

        Raises:
            TimeoutError: no message came in time.
        """
        return self._instance.mailbox.get_message(timeout)

    def receive_blob(self, timeout: float | None = None) -> bytes:
        """Return the client's next blob, waiting for it.

        On the process protocol a blob is lost unless the program is waiting in here when it comes: send a message
        first that says so.

        Args:
            timeout: seconds to wait at most; None waits without a limit, 0 not at all.

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
    """A function that is called anew for every instance."""

    def __init__(self, function: ProgramFunction) -> None:
        self._function = function

    def run(self, instance: Instance) -> tuple[Event, str]:
        """Call the function: what it returns completes the instance, what it raises is its exception."""
        try:
            result = self._function(ProgramContext(instance))
            text = _as_text(result, as_json=instance.is_json)
        except Terminated:
            return Event.Aborted, ""  # told already
        except BaseException as error:  # a SystemExit ends this instance, not the server's thread
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
