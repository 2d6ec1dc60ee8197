"""What went wrong, as one line that a person can read, and what helps."""

from __future__ import annotations

from typing import NamedTuple

from .._printable import printable
from ..errors import (
    AttachError,
    AuthenticationError,
    InvalidKeyError,
    LaunchError,
    PieConnectionError,
    PieError,
    PieTimeoutError,
    ProtocolError,
    RequestError,
    TerminateError,
    UploadError,
)

__all__ = ["Explanation", "Failure", "explain", "printable"]


class Failure(Exception):  # noqa: N818 - what it is to the person; and the word is shown to nobody
    """The command can't do what it was asked for.

    Args:
        text: why, in one line.
        cure: what helps, in one line.
    """

    def __init__(self, text: str, cure: str) -> None:
        super().__init__(text)
        self.cure = cure


class Explanation(NamedTuple):
    """What a person is told of an error."""

    text: str
    cure: str


#: From the special to the general: the first kind that fits counts.
_CURES: tuple[tuple[type[BaseException], str], ...] = (
    (PieConnectionError, "is the server still there? `pie-sync ping` tells; --timeout SECONDS waits longer"),
    (InvalidKeyError, "--key FILE takes another private key; `pie-sync config show` tells where this one is from"),
    (AuthenticationError, "try --username NAME or --key FILE; `pie-sync config show` tells what is used now"),
    (PieTimeoutError, "--timeout SECONDS waits longer"),
    (LaunchError, "a program is a name such as std/text-completion@1.0.0, a hash, or the path of a .wasm file"),
    (UploadError, "is it a program for this server's generation? see `pie-sync upload --help`"),
    (AttachError, "`pie-sync list` shows the instances, and which of them are detached"),
    (TerminateError, "`pie-sync list` shows the instances"),
    (RequestError, "`pie-sync ping` tells what kind of server it is; not every one can do everything"),
    (ProtocolError, "is it a Pie server? --debug shows more"),
    (PieError, "--debug shows more"),
    (FileNotFoundError, "is the path right?"),
    (PermissionError, "may you read and write there?"),
    (OSError, "--debug shows more"),
    (ValueError, "--help shows what is expected"),
    (TypeError, "--help shows what is expected"),
)


def explain(error: BaseException) -> Explanation:
    """Say in two lines what happened and what helps."""
    text = _text(error)
    if isinstance(error, Failure):
        return Explanation(text, printable(error.cure))
    for kind, cure in _CURES:
        if isinstance(error, kind):
            return Explanation(text, cure)
    return Explanation(f"{type(error).__name__}: {text}", "this is a bug in pie-sync: --debug shows where")


def _text(error: BaseException) -> str:
    if isinstance(error, RequestError):
        return f"the server says no: {printable(error.reason)}"
    # An OSError's own text begins with "[Errno 2]", and a connection's is no OSError's.
    if isinstance(error, OSError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return printable(": ".join([*names, error.strerror]))
    return printable(str(error)) or type(error).__name__
