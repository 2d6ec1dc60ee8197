"""Time limits. A *timeout* is a number of seconds (None: no limit), a *deadline* a value of ``time.monotonic``."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Union

from ..errors import PieTimeoutError

__all__ = [
    "DEFAULT",
    "Default",
    "TimeLimit",
    "Timeout",
    "acquire",
    "check_timeout",
    "deadline_after",
    "remaining",
    "time_left",
]


class Default:
    """The type of :data:`DEFAULT`."""

    def __repr__(self) -> str:
        return "DEFAULT"


#: "Whatever the client's ``timeout`` is": not None, which means no limit at all.
DEFAULT = Default()

#: The longest time limit in seconds, about 23 days.
LONGEST = 2_000_000.0

Timeout = Union[float, None, Default]


def check_timeout(timeout: float | None, name: str = "timeout") -> float | None:
    """Return ``timeout`` if it makes sense; None if it is too long to be a limit.

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
    # What is longer than systems can wait (poll() counts milliseconds in 31 bits) is as good as no limit.
    return timeout if timeout <= LONGEST else None


def deadline_after(timeout: float | None) -> float | None:
    """Return the deadline ``timeout`` seconds from now."""
    return None if timeout is None else monotonic() + timeout


def time_left(deadline: float | None) -> float | None:
    """Return the timeout that ends at a deadline."""
    return None if deadline is None else max(0.0, deadline - monotonic())


def remaining(deadline: float | None) -> float:
    """Return how long to wait, in the terms of ``Lock.acquire``: -1 is without limit, 0 is not at all."""
    if deadline is None:
        return -1
    return min(max(0.0, deadline - monotonic()), threading.TIMEOUT_MAX)


def acquire(lock: threading.Lock | threading.RLock, deadline: float | None, acquired: list[bool]) -> bool:
    """Acquire a lock before a deadline, and say whether that succeeded: in ``acquired``, too, in the same instant.

    With ``lock.acquire(timeout=...)`` and ``try`` behind it Ctrl-C may come between the two, and the lock stays
    locked for ever. So call this inside of ``try``, and behind ``finally`` release the lock ``if True in
    acquired``. (``with lock`` leaves no such gap either, but has no time limit.)
    """
    # extend() and map() call acquire() and keep its result without a step of Python in between.
    acquired.extend(map(lock.acquire, (False,)))
    if not acquired[-1]:
        acquired.extend(map(lock.acquire, (True,), (remaining(deadline),)))
    return acquired[-1]


class TimeLimit:
    """The time limit of one call of the user's, which may take several steps.

    Args:
        timeout: seconds; None is without limit.
        stall: whether it's for the time without progress, which begins anew with each step, rather than for the
            whole call.
    """

    __slots__ = ("_deadline", "_stall", "_timeout")

    def __init__(self, timeout: float | None, *, stall: bool = False) -> None:
        self._timeout = timeout
        self._stall = stall
        self._deadline = None if timeout is None else monotonic() + timeout  # deadline_after(), for each request

    def deadline(self) -> float | None:
        """Return the deadline of the step that begins now."""
        return deadline_after(self._timeout) if self._stall else self._deadline

    def left(self) -> float | None:
        """Return how many seconds the step that begins now may take."""
        return time_left(self.deadline())

    def expired(self, name: str, what: str) -> PieTimeoutError:
        """Return the error to raise when the time is over and ``what`` is the matter."""
        if self._stall:
            return PieTimeoutError(f"{name}: no progress for {self._timeout} s: {what}")
        return PieTimeoutError(f"{name}: {what} within {self._timeout} s")
