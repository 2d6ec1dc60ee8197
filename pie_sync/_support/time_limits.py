"""Time limits. A *timeout* is a number of seconds (None: no limit), a *deadline* a value of ``time.monotonic``."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Union

from ..errors import PieTimeoutError, PieValueError

__all__ = [
    "DEFAULT",
    "NO_LIMIT",
    "Default",
    "TimeLimit",
    "Timeout",
    "acquire",
    "check_polling_timeout",
    "check_timeout",
    "deadline_after",
    "remaining",
    "time_left",
]


class Default:
    """The type of :data:`DEFAULT`."""

    def __repr__(self) -> str:
        return "DEFAULT"


#: Stands for the client's ``timeout``. (None stands for no limit.)
DEFAULT = Default()

#: The longest time limit in seconds, about 23 days.
LONGEST = 2_000_000.0

Timeout = Union[float, None, Default]


def check_timeout(
    timeout: float | None, name: str = "timeout", *, zero: str = "None waits without limit"
) -> float | None:
    """Return ``timeout`` if it is valid and not 0; None if it is longer than systems can wait.

    Args:
        timeout: seconds, or None.
        name: of the argument, for errors.
        zero: what helps a caller who passes 0.

    Raises:
        TypeError: it isn't a number.
        PieValueError: it is 0, in which nothing can be done, or negative, or not a number (NaN).
    """
    checked = check_polling_timeout(timeout, name)
    if checked == 0:
        raise PieValueError(f"{name} must be more than 0 seconds, or None: nothing is done in no time", zero)
    return checked


def check_polling_timeout(timeout: float | None, name: str = "timeout") -> float | None:
    """Return ``timeout`` as :func:`check_timeout` does, also 0: for what need not wait.

    Raises:
        TypeError: it isn't a number.
        PieValueError: it is negative or not a number (NaN).
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(timeout).__name__}")
    if timeout != timeout:  # noqa: PLR0124 - NaN alone is not equal to itself
        raise PieValueError(f"{name} must be a number of seconds or None, not {timeout}")
    if timeout < 0:
        raise PieValueError(f"{name} must not be negative, got {timeout}; None waits without limit")
    # poll() counts milliseconds in 31 bits. A longer limit is as good as none.
    return timeout if timeout <= LONGEST else None


def deadline_after(timeout: float | None) -> float | None:
    """Return the deadline ``timeout`` seconds from now."""
    return None if timeout is None else monotonic() + timeout


def time_left(deadline: float | None) -> float | None:
    """Return the timeout that ends at a deadline."""
    return None if deadline is None else max(0.0, deadline - monotonic())


def remaining(deadline: float | None) -> float:
    """Return the timeout until a deadline in the form of ``Lock.acquire``: -1 is without limit, 0 polls."""
    if deadline is None:
        return -1
    return min(max(0.0, deadline - monotonic()), threading.TIMEOUT_MAX)


def acquire(lock: threading.Lock | threading.RLock, deadline: float | None, acquired: list[bool]) -> bool:
    """Acquire a lock before a deadline. Return whether that succeeded, and append it to ``acquired`` atomically.

    Between ``lock.acquire(timeout=...)`` and a following ``try`` a signal handler may raise, and the lock would
    stay locked for ever. So call this function inside of ``try``, and release the lock in ``finally`` ``if True in
    acquired``. (``with lock`` leaves no such gap either, but has no time limit.)
    """
    # extend() and map() call acquire() and keep its result without a step of Python in between, where a signal
    # handler could run.
    acquired.extend(map(lock.acquire, (False,)))
    if not acquired[-1]:
        acquired.extend(map(lock.acquire, (True,), (remaining(deadline),)))
    return acquired[-1]


class TimeLimit:
    """The time limit of one call of a public method, which may take several steps.

    Args:
        timeout: seconds; None is without limit.
        stall: whether the limit is for the time without progress, and so starts again with each step, instead of
            for the whole call.
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

    def earlier(self, other: TimeLimit) -> TimeLimit:
        """Return this limit or another one, whichever ends a step earlier that begins now."""
        mine, others = self.deadline(), other.deadline()
        return other if others is not None and (mine is None or others < mine) else self

    def expired(self, name: str, what: str, remark: str = "") -> PieTimeoutError:
        """Return the error to raise when the time is over.

        Args:
            name: the client's method.
            what: what did not happen in time.
            remark: what to add.
        """
        if self._stall:
            return PieTimeoutError(f"{name}: no progress for {self._timeout} s: {what}")
        return PieTimeoutError(f"{name}: {what} within {self._timeout} s{remark}")


#: None at all.
NO_LIMIT = TimeLimit(None)
