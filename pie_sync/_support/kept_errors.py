"""Errors that are kept: raised later, perhaps many times, in other threads."""

from __future__ import annotations

from copy import copy
from typing import TypeVar

__all__ = ["copy_of_error", "without_frames"]

E = TypeVar("E", bound=BaseException)


def copy_of_error(error: E) -> E:
    """Return a new exception for one of many who get it: a raised one collects the traceback of every thread."""
    copied = copy(error)
    copied.__cause__ = error
    return copied


def without_frames(error: E) -> E:
    """Return an error without what its frames and their callers hold: the client, and half a megabyte of buffer.

    What keeps the error is among that, as a rule, so that only the garbage collector would free it.
    """
    part: BaseException | None = error
    while part is not None:
        part.__traceback__ = None
        part = part.__cause__ or part.__context__
    return error
