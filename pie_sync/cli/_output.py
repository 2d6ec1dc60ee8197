"""Writing to stdout and stderr: results, notes, and what a program prints, each flushed at once."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["CYAN", "DIM", "RED", "Output", "echo", "say", "styled", "writing"]


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Name the file in an ``OSError`` that the with-block raises: an error of ``write()`` does not know it."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader is gone: `_command` exits without a word, whatever the name
    except OSError as error:
        if error.filename is None:
            error.filename = name
        raise


def echo(text: str) -> None:
    """Write a line to stdout, which is for results only.

    Raises:
        OSError: it can't be written.
    """
    with writing("stdout"):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def say(text: str) -> None:
    """Write a line for the user to stderr. A stderr that can't be written is ignored: nobody reads it."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except OSError:
        pass


RED, CYAN, DIM = "1;31", "36", "2"  # as ANSI escape sequences number them


def styled(text: str, style: str) -> str:
    """Return text for stderr in a colour, where people and their settings want colours there.

    By the conventions of ``NO_COLOR`` and ``FORCE_COLOR``, which rich follows in the help as well.
    """
    if os.environ.get("NO_COLOR"):
        return text
    if not os.environ.get("FORCE_COLOR"):
        is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        # The old console of Windows shows the sequences themselves.
        if not is_terminal or (os.name != "posix" and "WT_SESSION" not in os.environ):
            return text
    return f"\x1b[{style}m{text}\x1b[0m"


class _Cursor:
    """Where the next character goes. On a terminal, stdout and stderr write at the same place."""

    is_inside_line = False


class _Stream:
    def __init__(self, file: TextIO, name: str, cursor: _Cursor) -> None:
        self._file = file
        self._name = name
        self._cursor = cursor
        # Serialises writing. Each stream has its own lock: a note must not wait for the reader of stdout.
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        if text:
            with self._lock:
                self._put(text)

    def line(self, text: str) -> None:
        with self._lock:
            self._put(f"\n{text}\n" if self._cursor.is_inside_line else f"{text}\n")

    def _put(self, text: str) -> None:
        # Before it is written: who sees the text on the terminal may interrupt, and the note about it comes next.
        self._cursor.is_inside_line = not text.endswith("\n")
        with writing(self._name):
            self._file.write(text)
            self._file.flush()


class Output:
    """The output of one instance. Thread-safe. Every method raises ``OSError`` if it can't write."""

    def __init__(self) -> None:
        cursor = _Cursor()
        is_shared = sys.stdout.isatty() and sys.stderr.isatty()
        self._stdout = _Stream(sys.stdout, "stdout", cursor)
        self._stderr = _Stream(sys.stderr, "stderr", cursor if is_shared else _Cursor())

    def stdout(self, text: str) -> None:
        """Write text to stdout unchanged."""
        self._stdout.write(text)

    def stderr(self, text: str) -> None:
        """Write text to stderr unchanged."""
        self._stderr.write(text)

    def result(self, text: str) -> None:
        """Write a line to stdout, after ending a line that the program has left open."""
        self._stdout.line(text)

    def note(self, text: str) -> None:
        """Write a line to stderr, after ending a line that the program has left open."""
        self._stderr.line(text)
