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
     │   └─ PieTimeoutError         no answer within the time limit      (also a TimeoutError)
     └─ ConnectionError
         └─ PieConnectionError      the connection can't be made, or is lost; *not* a PieError
             └─ PieConnectTimeoutError   … can't be made in time         (also a TimeoutError)

Two roots, so that ``except PieError`` and ``except ConnectionError`` each catch their own kind: the first
says that the conversation went wrong, the second that there is none. Whatever a library underneath raised is
the ``__cause__``.

What a server says is part of many texts. ``str()`` of an error is one line that can't control a terminal, of 2,000
characters at the most; attributes such as ``reason`` are as the server said them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._printable import printable

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
    "ProtocolError",
    "RequestError",
    "TerminateError",
    "UploadError",
]


#: The most characters of an error's text.
_MAX_TEXT = 2000


class PieError(Exception):
    """The root of everything the server refuses or breaks. A lost connection is not one: see the module."""

    def __str__(self) -> str:
        return printable(self._text(), _MAX_TEXT)

    def _text(self) -> str:
        return super().__str__()


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
        instance_id: the instance that was waited for; None if it was the answer to a request.
    """

    completed: CompletedInstance | None = None
    instance_id: str | None = None


class PieConnectionError(ConnectionError):
    """The connection can't be made, or is lost, or was closed. Not a :class:`PieError`, on purpose."""

    def __str__(self) -> str:
        return printable(super().__str__(), _MAX_TEXT)


class PieConnectTimeoutError(PieConnectionError, TimeoutError):
    """The connection could not be made within ``connect_timeout``."""
