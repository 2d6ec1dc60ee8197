"""The process's three standard streams: present from the start, flushed at the end."""

from __future__ import annotations

import os
import sys

__all__ = ["flush_streams", "is_missing", "open_missing_streams", "tolerate_any_text"]


#: The standard streams that this process was started without.
_MISSING: set[str] = set()


def is_missing(name: str) -> bool:
    """Return whether this process was started without a standard stream, such as ``"stdout"``."""
    return name in _MISSING


def open_missing_streams() -> None:
    """Open the null device for each standard stream that this process was started without.

    Python sets ``sys.stdin`` and the others to None if their file descriptor is closed (``>&-``, some services).
    The next file or socket would get that descriptor, and what C code or a child process writes there.
    """
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            # os.open() takes the lowest free descriptor: `fd`, unless something else has got it already.
            opened = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(opened, opened == fd)
            _MISSING.add(name)
            setattr(sys, name, open(opened, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def tolerate_any_text() -> None:
    """Show characters that the terminal can't show as their codes, and read bytes that are no text."""
    for stream, errors in (
        (sys.stdin, "replace"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)


def flush_streams() -> None:
    """Flush stdout and stderr. What can't be written was reported by whoever wrote it, or has no reader."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Python would try again at exit, and complain. The null device takes what is left.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
