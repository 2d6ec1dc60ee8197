"""What can go wrong, and how it is told.

.. code-block:: text

    Exception
     ├─ PieError                    whatever the server refuses or breaks
     │   ├─ AuthenticationError     the server does not accept who you are
     │   ├─ RequestError            the server refused one request (.request, .reason)
     │   │   ├─ UploadError
     │   │   ├─ LaunchError
     │   │   ├─ AttachError
     │   │   └─ TerminateError
     │   ├─ ProtocolError           the server sent a malformed or unexpected message
     │   ├─ InstanceEnded           recv() after the terminal event
     │   ├─ InstanceFailed          wait(check=True) and the instance did not complete
     │   ├─ InvalidKeyError         a private key that can't be used     (also a ValueError)
     │   ├─ PieValueError           an argument has a value that can't be used (also a ValueError)
     │   └─ PieTimeoutError         no answer within the time limit      (also a TimeoutError)
     └─ ConnectionError
         └─ PieConnectionError      the connection can't be made, or is lost; *not* a PieError
             └─ PieConnectTimeoutError   … can't be made in time         (also a TimeoutError)

Two roots, so that ``except PieError`` and ``except ConnectionError`` each catch their own kind: the first
says that the conversation went wrong, the second that there is none. Whatever a library underneath raised is
the ``__cause__``.

What a server says is part of many texts. ``str()`` of an error is one line that can't control a terminal, of 2,000
characters at the most; attributes such as ``reason`` are as the server said them.

If the cause of an error has a known cure, ``error.hint`` says it, and ``str()`` ends with it: ``… (hint: …)``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ._printable import printable
from ._texts.hints import hint_for_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .events import CompletedInstance

__all__ = [
    "AttachError",
    "AuthenticationError",
    "InstanceEnded",
    "InstanceFailed",
    "InvalidKeyError",
    "LaunchError",
    "PieConnectTimeoutError",
    "PieConnectionError",
    "PieError",
    "PieTimeoutError",
    "PieValueError",
    "ProtocolError",
    "RequestError",
    "TerminateError",
    "UploadError",
]


#: The most characters of an error's text.
_MAX_TEXT = 2000

#: The most characters of the text in the ``repr`` of a failed instance.
_MAX_REPR = 250

#: A frame of a Python traceback, with its line of source. (Those of the server have none.)
_FRAME = re.compile(r'^  File "[^"\n]*", line (\d+), in ([^\n]*)\n    (\S[^\n]*)$', re.MULTILINE)

#: Longer messages are not searched for a traceback.
_MAX_SEARCHED = 100_000


def _with_hint(text: str, hint: str | None) -> str:
    return f"{text} (hint: {hint})" if hint else text


class PieError(Exception):
    """The root of everything the server refuses or breaks. A lost connection is not one: see the module.

    Attributes:
        hint: what helps against the cause, in one line; None if that is not known.
        input: the arguments of the instance that the error is about, where :meth:`PieClient.run` or ``map`` raises
            or yields it; else None. (:exc:`InstanceFailed` has them in any case.)
        ok: False. So the results of a ``map`` that yields errors can all be asked: ``result.ok``.
    """

    ok: bool = False
    hint: str | None = None
    input: list[str] | Mapping[str, Any] | None = None

    @property
    def text(self) -> str:
        """What happened, without the hint, as one line."""
        return printable(self._text(), _MAX_TEXT)

    def __str__(self) -> str:
        return _with_hint(self.text, self.hint)

    def _text(self) -> str:
        return super().__str__()


class PieValueError(PieError, ValueError):
    """An argument has a value that can't be used; the text names it. A wrong *type* is a ``TypeError``.

    Args:
        text: what is wrong.
        hint: what helps, in one line.
    """

    def __init__(self, text: str, hint: str | None = None) -> None:
        super().__init__(text)
        self.hint: str | None = hint


class AuthenticationError(PieError):
    """The server does not accept who you are, or wants to know it before anything else."""


class RequestError(PieError):
    """The server refused a request.

    Attributes:
        request: the name of the client's method, such as ``"launch_instance"``.
        reason: why, in the server's words (or the client's, when it could tell without asking).
    """

    def __init__(self, request: str, reason: str) -> None:
        super().__init__(request, reason)
        self.request = request
        self.reason = reason
        self.hint: str | None = hint_for_refusal(request, reason)

    def _text(self) -> str:
        return f"{self.request} failed: {self.reason}"


class UploadError(RequestError):
    """A program or a blob was not accepted."""


class LaunchError(RequestError):
    """An instance could not be launched."""


class AttachError(RequestError):
    """An instance could not be attached to, or the call needs an instance that is attached."""


class TerminateError(RequestError):
    """An instance could not be terminated."""


class ProtocolError(PieError):
    """The server sent a malformed or unexpected message; the text names it."""


class InstanceEnded(PieError):  # noqa: N818 - a state, like StopIteration; the name is part of the API
    """The instance has ended and its terminal event was already received."""


class InstanceFailed(PieError):  # noqa: N818 - the name is part of the API
    """``wait(check=True)``: the instance ended otherwise than ``Completed``.

    The traceback of a function that failed on the server is part of the text, with the function's own lines only;
    ``completed.message`` has all of it.

    Attributes:
        instance_id: which instance.
        completed: the :class:`CompletedInstance`, with everything that it had sent.
        input: the arguments that it was launched with; None if this client did not launch it.
        id: the same as ``instance_id``.
        elapsed: ``completed.elapsed``.
    """

    def __init__(self, instance_id: str, completed: CompletedInstance[Any]) -> None:
        super().__init__(instance_id, completed)
        self.instance_id = instance_id
        self.completed = completed
        self.input: list[str] | Mapping[str, Any] | None = completed.input
        self.id: str = instance_id
        self.elapsed: float | None = completed.elapsed

    def _text(self) -> str:
        message = _with_own_lines(self.completed.message)
        return f"instance {self.instance_id} ended with {self.completed.event.name}: {message}"

    def __repr__(self) -> str:
        return f"<InstanceFailed: {printable(self._text(), _MAX_REPR)}>"


def _with_own_lines(message: str) -> str:
    """Shorten the traceback of a Python program: to its error, and the lines of the program that led there.

    Pie 0.5 sends the error, then the traceback, which begins with frames of its own.
    """
    error, _, traceback = message.partition("\nTraceback (most recent call last):\n")
    if not traceback or len(message) > _MAX_SEARCHED:
        return message
    # Behind the last "Traceback" are the frames of the error itself; before it those of its cause.
    frames = _FRAME.findall(traceback.rsplit("\nTraceback (most recent call last):\n", 1)[-1])
    lines = [f"line {line}, in {name}: {code}" for line, name, code in frames]
    return f"{error} ({'; '.join(lines)})" if lines else error


class InvalidKeyError(PieError, ValueError):
    """A private key that can't be read, or that Pie does not take; the text gives a hint."""


class PieTimeoutError(PieError, TimeoutError):
    """No answer, or no event, within the time limit. The connection is still usable.

    Attributes:
        completed: from :meth:`PieClient.run` only: what had been received; None where there's nothing to tell.
        instance_id: the instance that was waited for; None if it was the answer to a request.
    """

    completed: CompletedInstance[Any] | None = None
    instance_id: str | None = None


class PieConnectionError(ConnectionError):
    """The connection can't be made, or is lost, or was closed. Not a :class:`PieError`, on purpose.

    Attributes:
        hint: what helps against the cause, in one line; None if that is not known.
    """

    hint: str | None = None

    @property
    def text(self) -> str:
        """What happened, without the hint, as one line."""
        return printable(self._text(), _MAX_TEXT)

    def __str__(self) -> str:
        return _with_hint(self.text, self.hint)

    def _text(self) -> str:
        return super().__str__()


class PieConnectTimeoutError(PieConnectionError, TimeoutError):
    """The connection could not be made within ``connect_timeout``."""
