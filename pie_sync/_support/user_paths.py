"""Paths as users write them, with ``~`` for the home directory, which may be missing."""

from __future__ import annotations

from pathlib import Path

from ..errors import PieValueError

__all__ = ["expand", "home"]

#: What Python raises without a home directory; up to 3.9 a KeyError.
_NO_HOME = (RuntimeError, KeyError)


def home() -> Path | None:
    """Return the home directory; None if there is none, as for a numeric user without the variable HOME."""
    try:
        return Path.home()
    except _NO_HOME:
        return None


def expand(path: Path) -> Path:
    """Replace a leading ``~`` by the home directory.

    Raises:
        PieValueError: there is no such home directory.
    """
    try:
        return path.expanduser()
    except _NO_HOME as error:
        raise PieValueError(
            f"{path}: there is no such home directory", "give the whole path, or set HOME"
        ) from error
