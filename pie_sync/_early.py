"""Events that arrive before it is known whose they are."""

from __future__ import annotations

from typing import Any

__all__ = ["EarlyEvents"]

#: The most bytes that are kept, counting something for each event.
_LIMIT = 16 * 1024 * 1024
_EVENT_SIZE = 200

#: Of how many instances it is remembered that something was lost.
_MAX_LOST = 10_000


class EarlyEvents:
    """Keeps what comes of instances that are not known yet, up to a limit.

    Not thread-safe: the session's lock guards it.
    """

    def __init__(self) -> None:
        self._events: dict[str, list[Any]] = {}
        self._lost: dict[str, int] = {}
        self._size = 0

    def add(self, instance_id: str, decoded: Any) -> None:
        """Keep an event or a chunk; beyond the limit, only count it."""
        size = _EVENT_SIZE + (len(decoded[1][1]) if isinstance(decoded, tuple) else len(decoded.data))
        if self._size + size > _LIMIT:
            if instance_id in self._lost or len(self._lost) < _MAX_LOST:
                self._lost[instance_id] = self._lost.get(instance_id, 0) + 1
            return
        self._events.setdefault(instance_id, []).append(decoded)
        self._size += size

    def take(self, instance_id: str) -> tuple[list[Any], int]:
        """Return what was kept of an instance, in order, and how much of it was lost."""
        return self._events.pop(instance_id, []), self._lost.pop(instance_id, 0)

    def clear(self) -> None:
        """Drop everything."""
        self._events.clear()
        self._lost.clear()
        self._size = 0
