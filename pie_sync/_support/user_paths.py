"""Paths as users write them, with ``~`` for the home directory, which may be missing."""

from __future__ import annotations

from pathlib import Path

from ..errors import PieValueError

__all__ = ["expand", "home"]


def home() -> Path | None:
    """Return the home directory; None if there is none, as for a numeric user without the variable HOME."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def expand(path: Path) -> Path:
    """Replace a leading ``~`` by the home directory.

    Raises:
        PieValueError: there is no such home directory.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise PieValueError(
            f"{path}: there is no such home directory", "give the whole path, or set HOME"
        ) from error
