"""Errors as one line that a person can read, and a hint."""

from __future__ import annotations

import errno
from typing import NamedTuple

from .._printable import printable
from .._texts.hints import in_a_shell
from ..errors import (
    AuthenticationError,
    InvalidKeyError,
    PieConnectionError,
    PieError,
    PieTimeoutError,
    PieValueError,
    ProtocolError,
    RequestError,
)

__all__ = ["Explanation", "Failure", "explain", "printable"]


class Failure(Exception):  # noqa: N818 - the name is never shown to the user
    """The command can't do what the user asked for.

    Args:
        text: the reason, in one line.
        hint: what the user can do about it, in one line.
    """

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class Explanation(NamedTuple):
    """The two lines that the user sees of an error; only one where nothing is known to help."""

    text: str
    hint: str | None


#: Hints for errors that have none of their own. The first class that an error is an instance of counts, so
#: subclasses come first. A refused request without a known cause gets none, for it would mislead.
_HINTS: tuple[tuple[type[BaseException], str], ...] = (
    (PieConnectionError, "is the server still there? `pie-sync ping` tells; --timeout SECONDS waits longer"),
    (InvalidKeyError, "--key FILE takes another private key; `pie-sync config show` shows where this one is from"),
    (AuthenticationError, "try --username NAME or --key FILE; `pie-sync config show` shows what is used now"),
    (PieTimeoutError, "--timeout SECONDS waits longer"),
    (PieValueError, "--help shows what is expected"),
    (ProtocolError, "is it a Pie server? --debug shows more"),
    (PieError, "--debug shows more"),
    (FileNotFoundError, "is the path right?"),
    (PermissionError, "may you read and write there?"),
    (OSError, "--debug shows more"),
    (ValueError, "--help shows what is expected"),
    (TypeError, "--help shows what is expected"),
)

#: The error numbers of a disk, a quota or a file size limit that is used up.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explain(error: BaseException) -> Explanation:
    """Return what to tell the user about an error."""
    text = _text(error)
    if isinstance(error, Failure):
        return Explanation(text, printable(error.hint))
    if isinstance(error, (PieError, PieConnectionError)) and error.hint:
        return Explanation(text, printable(in_a_shell(error.hint)))
    if isinstance(error, RequestError):
        return Explanation(text, None)
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return Explanation(text, "make room there, or write to another place")
    for kind, hint in _HINTS:
        if isinstance(error, kind):
            return Explanation(text, hint)
    return Explanation(f"{type(error).__name__}: {text}", "this is a bug in pie-sync: --debug shows where")


def _text(error: BaseException) -> str:
    if isinstance(error, RequestError):
        return f"the server refuses the request: {printable(error.reason)}"
    if isinstance(error, (PieError, PieConnectionError)):
        return str(error.text)
    # str() of an OSError begins with "[Errno 2]". Our own connection errors have no strerror.
    if isinstance(error, OSError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return printable(": ".join([*names, error.strerror]))
    return printable(str(error)) or type(error).__name__
