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

from typing import TYPE_CHECKING, Any

from ._printable import printable
from ._texts.hints import hint_for_refusal

if TYPE_CHECKING:
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


def _text(error: Any) -> str:
    """Return what happened, without the hint, as one line."""
    return printable(error._text(), _MAX_TEXT)


def _text_and_hint(error: Any) -> str:
    return f"{error.text} (hint: {error.hint})" if error.hint else str(error.text)


class PieError(Exception):
    """The root of everything the server refuses or breaks. A lost connection is not one: see the module.

    Attributes:
        hint: what helps against the cause, in one line; None if that is not known.
    """

    hint: str | None = None
    text = property(_text)
    __str__ = _text_and_hint

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
        if hint is not None:
            self.hint = hint


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
        self.hint = hint_for_refusal(request, reason)

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

    Attributes:
        instance_id: which instance.
        completed: the :class:`CompletedInstance`, with everything that it had sent.
    """

    def __init__(self, instance_id: str, completed: CompletedInstance) -> None:
        super().__init__(instance_id, completed)
        self.instance_id = instance_id
        self.completed = completed

    def _text(self) -> str:
        return f"instance {self.instance_id} ended with {self.completed.event.name}: {self.completed.message}"


class InvalidKeyError(PieError, ValueError):
    """A private key that can't be read, or that Pie does not take; the text gives a hint."""


class PieTimeoutError(PieError, TimeoutError):
    """No answer, or no event, within the time limit. The connection is still usable.

    Attributes:
        completed: from :meth:`PieClient.run` only: what had been received; None where there's nothing to tell.
    """

    completed: CompletedInstance | None = None


class PieConnectionError(ConnectionError):
    """The connection can't be made, or is lost, or was closed. Not a :class:`PieError`, on purpose.

    Attributes:
        hint: what helps against the cause, in one line; None if that is not known.
    """

    hint: str | None = None
    text = property(_text)
    __str__ = _text_and_hint

    def _text(self) -> str:
        return super().__str__()


class PieConnectTimeoutError(PieConnectionError, TimeoutError):
    """The connection could not be made within ``connect_timeout``."""
