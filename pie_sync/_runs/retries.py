"""Which failures of a ``map`` are worth another try, and how long to wait before it."""

from __future__ import annotations

import re

from ..errors import InstanceFailed, LaunchError, PieConnectionError, PieTimeoutError, ProtocolError
from ..events import Event

__all__ = ["growing_pause", "may_be_bad_luck"]

#: The first pause and the longest one, in seconds.
_FIRST, _LONGEST = 0.1, 30.0

#: What servers say of a launch that they would refuse again. Servers up to 0.4 look for what they don't have in a
#: registry. Whether that has the program they only know if they reach it, so a failure to reach it is not in here.
_LASTING = re.compile(
    "not found|not installed|no such program|no program named|has no version|invalid|compile|permission denied",
    re.IGNORECASE,
)

#: Addresses in these reasons, which have the program's name in them.
_URL = re.compile(r"https?://\S+")


def may_be_bad_luck(error: Exception) -> bool:
    """Return whether the same input may succeed when it is launched again.

    A server may be short of something, a model may answer otherwise. But a program that is not there stays away, a
    mistake in the arguments stays one, and an instance that somebody has terminated was not meant to run.
    """
    if isinstance(error, LaunchError):
        return _LASTING.search(_URL.sub("", error.reason)) is None
    if isinstance(error, InstanceFailed):
        return error.completed.event is not Event.Aborted
    return isinstance(error, (ProtocolError, PieTimeoutError, PieConnectionError))


def growing_pause(attempts: int, first: float = _FIRST) -> float:
    """Return how many seconds to wait after so many failed attempts: twice as long each time, 30 s at the most."""
    return min(first * 2.0 ** min(attempts - 1, 30), _LONGEST)
