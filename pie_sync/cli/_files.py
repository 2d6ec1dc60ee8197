"""Paths that the user gives, and text files that the user wrote."""

from __future__ import annotations

from pathlib import Path

from .._support import text_files
from .._support.user_paths import expand
from ._failures import Failure

__all__ = ["ENCODING_HINT", "expand", "read_text"]

#: What helps where a file has the wrong encoding.
ENCODING_HINT = "save it as UTF-8"


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
