"""Time limits. A *timeout* is a number of seconds (None: no limit), a *deadline* a value of ``time.monotonic``."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Union

__all__ = ["DEFAULT", "Default", "Timeout", "check_timeout", "deadline_after", "remaining"]


class Default:
    """The type of :data:`DEFAULT`."""

    def __repr__(self) -> str:
        return "DEFAULT"


#: "Whatever the client's ``timeout`` is": not None, which means no limit at all.
DEFAULT = Default()

Timeout = Union[float, None, Default]


def check_timeout(timeout: float | None, name: str = "timeout") -> float | None:
    """Return ``timeout`` if it makes sense.

    Raises:
        TypeError: it isn't a number.
        ValueError: it is negative or not a number (NaN).
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(timeout).__name__}")
    if not timeout >= 0:
        raise ValueError(f"{name} must not be negative, got {timeout}; 0 polls, None waits without limit")
    return timeout


def deadline_after(timeout: float | None) -> float | None:
    """Return the deadline ``timeout`` seconds from now."""
    return None if timeout is None else monotonic() + timeout


def remaining(deadline: float | None) -> float:
    """Return how long to wait, in the terms of ``Lock.acquire``: -1 is without limit, 0 is not at all."""
    if deadline is None:
        return -1
    return min(max(0.0, deadline - monotonic()), threading.TIMEOUT_MAX)
