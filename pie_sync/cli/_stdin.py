"""Reads standard input line by line, in a thread that can be stopped while it waits."""

from __future__ import annotations

import codecs
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Callable

__all__ = ["StdinReader"]

READ_SIZE = 64 * 1024

#: On Windows, select() takes sockets only.
_CAN_SELECT = os.name == "posix"


class StdinReader:
    """Calls a function for every line, and another at the end of the input.

    It reads from the file descriptor, because a thread that reads from ``sys.stdin`` can't be stopped.

    Args:
        on_line: called with each line, without its line end.
        on_end: called at the end of the input, but not after :meth:`stop`.
    """

    def __init__(self, on_line: Callable[[str], None], on_end: Callable[[], None]) -> None:
        self._on_line = on_line
        self._on_end = on_end
        self._file = sys.stdin.fileno()
        # Closing the writer ends the wait for input.
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._run, name="stdin", daemon=True)

    def start(self) -> None:
        """Start reading."""
        if hasattr(signal, "SIGTTIN"):
            # Reading from the terminal stops a background job of a shell. With the signal ignored, the read fails.
            signal.signal(signal.SIGTTIN, signal.SIG_IGN)
        self._thread.start()

    def stop(self) -> None:
        """Stop reading, within a second. On Windows, a read that has begun goes on in its thread."""
        os.close(self._wake_writer)
        if not self._thread.ident:
            os.close(self._wake_reader)
        elif _CAN_SELECT:
            self._thread.join(1.0)

    def _run(self) -> None:
        try:
            for line in self._lines():
                self._on_line(line)
        except OSError:
            return  # the terminal is closed, or this process is in the background
        finally:
            os.close(self._wake_reader)

    def _lines(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        rest = ""
        while self._wait():
            data = os.read(self._file, READ_SIZE)
            *lines, rest = (rest + decoder.decode(data, final=not data)).split("\n")
            for line in lines:
                yield line[:-1] if line.endswith("\r") else line
            if not data:
                if rest:
                    yield rest
                self._on_end()
                return

    def _wait(self) -> bool:
        """Wait for input; return False after :meth:`stop`."""
        if not _CAN_SELECT:
            return True
        ready, _, _ = select.select([self._file, self._wake_reader], [], [])
        return self._wake_reader not in ready
