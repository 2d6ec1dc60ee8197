"""What a program prints, and what we say about it: each to its stream, as soon as it is there."""

from __future__ import annotations

import sys
import threading
from typing import TextIO

__all__ = ["Output", "say"]


def say(text: str) -> None:
    """Tell the person something: on stderr, so that stdout has nothing but results."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except BrokenPipeError:
        pass  # nobody is left to be told


class _Cursor:
    """Where the next character goes: on a terminal, both streams write at the same place."""

    is_inside_line = False


class _Stream:
    def __init__(self, file: TextIO, cursor: _Cursor) -> None:
        self._file = file
        self._cursor = cursor
        # One text after the other. Not one lock for both streams: a note can't wait until somebody reads stdout.
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        if text:
            with self._lock:
                self._put(text)

    def line(self, text: str) -> None:
        with self._lock:
            self._put(f"\n{text}\n" if self._cursor.is_inside_line else f"{text}\n")

    def _put(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()
        self._cursor.is_inside_line = not text.endswith("\n")


class Output:
    """The two streams of this process. Thread-safe."""

    def __init__(self) -> None:
        cursor = _Cursor()
        is_shared = sys.stdout.isatty() and sys.stderr.isatty()
        self._stdout = _Stream(sys.stdout, cursor)
        self._stderr = _Stream(sys.stderr, cursor if is_shared else _Cursor())

    def stdout(self, text: str) -> None:
        """Write to stdout, as it is."""
        self._stdout.write(text)

    def stderr(self, text: str) -> None:
        """Write to stderr, as it is."""
        self._stderr.write(text)

    def result(self, text: str) -> None:
        """Write a line of its own to stdout."""
        self._stdout.line(text)

    def note(self, text: str) -> None:
        """Write a line of its own to stderr."""
        self._stderr.line(text)
