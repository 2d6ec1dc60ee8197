"""Paths that the user gives, and text files that the user wrote."""

from __future__ import annotations

from pathlib import Path

from .._support import text_files
from ._failures import Failure

__all__ = ["expand", "home", "read_text"]

#: What helps where a file has the wrong encoding.
ENCODING_HINT = "save it as UTF-8"


def home() -> Path | None:
    """Return the home directory; None if there is none, as for a numeric user without the variable HOME."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def expand(path: Path) -> Path:
    """Replace a leading ``~`` by the home directory.

    Raises:
        Failure: there is no such home directory.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise Failure(f"{path}: there is no such home directory", "give the whole path, or set HOME") from error


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte order mark.

    Raises:
        Failure: it is in another encoding.
        OSError: it can't be read.
    """
    try:
        return text_files.read_text(path)
    except ValueError as error:
        raise Failure(str(error), ENCODING_HINT) from error
