"""The files of ``map``, with one JSON value per line: inputs are read, results are written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from typing import IO, Any

from .._runs.records import Args
from .._support.text_files import decode_text
from ..events import Event
from ._failures import Failure
from ._files import ENCODING_HINT
from ._output import echo
from ._streams import is_missing

__all__ = ["PrintedResults", "open_inputs", "read_inputs"]


def open_inputs(path: str) -> IO[bytes]:
    """Open the file of inputs; ``-`` is stdin."""
    return open(0, "rb", closefd=False) if path == "-" else open(path, "rb")


def read_inputs(file: IO[bytes], name: str) -> Iterator[Args]:
    """Read inputs: each line holds a JSON list of strings, a string (one argument), or an object.

    Empty lines are skipped, and so is a byte order mark.

    Raises:
        Failure: a line holds something else, or is not UTF-8; the text gives its number.
    """
    for number, line in enumerate(file, 1):
        try:
            text = decode_text(line, f"{name}, line {number}")
        except ValueError as error:
            raise Failure(str(error), ENCODING_HINT) from error
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except ValueError as error:
            raise Failure(
                f"{name}, line {number} is no JSON: {error}", 'a line looks like ["--prompt", "Hi"]'
            ) from error
        if isinstance(value, str):
            value = [value]
        if isinstance(value, dict) or (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            yield value
        else:
            raise Failure(
                f"{name}, line {number} is neither a list of strings nor an object",
                'a line looks like ["--prompt", "Hi"] or {"prompt": "Hi"}',
            )


class PrintedResults:
    """Results on stdout, in the place of a :class:`Journal`: nothing can be read back, so nothing is resumed.

    Attributes:
        done: the number of results.
        failed: the number of those whose instance has not completed.
        can_resume: False.

    Raises:
        OSError: there is no stdout.
    """

    def __init__(self) -> None:
        if is_missing("stdout"):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "stdout")
        self.can_resume = False
        self.done = 0
        self.failed = 0

    def resume(self, inputs: Iterator[Any]) -> Iterator[dict[str, Any]]:
        """Return no lines."""
        return iter(())

    def write(self, line: dict[str, Any]) -> None:
        """Print a line.

        Raises:
            OSError: it can't be written.
        """
        echo(json.dumps(line))
        self.done += 1
        self.failed += line["event"] != Event.Completed.name

    def end(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
