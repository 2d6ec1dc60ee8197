"""Events that arrive before it is known whose they are."""

from __future__ import annotations

from typing import Any

__all__ = ["EarlyEvents"]

#: The most bytes that are kept, counting something for each event.
_LIMIT = 16 * 1024 * 1024
_EVENT_SIZE = 200

#: Of how many instances something is kept, and remembered that something was lost.
_MAX_INSTANCES = 10_000

#: The longest text of an end that is kept in any case.
_MAX_END = 1000


class EarlyEvents:
    """Keeps what comes of instances that are not known yet, up to a limit.

    Not thread-safe: the lock of :class:`Calls` guards it.
    """

    def __init__(self) -> None:
        self._events: dict[str, list[Any]] = {}
        self._lost: dict[str, int] = {}
        self._size = 0

    def add(self, instance_id: str, decoded: Any) -> None:
        """Keep an event or a chunk; beyond the limit, only count it. An end is kept in any case, if need be alone.

        Nothing comes behind an end: what a server sends there is ignored.
        """
        kept = self._events.get(instance_id, ())
        if kept and _is_end(kept[-1]):
            return
        is_full = self._size + _size(decoded) > _LIMIT
        if _is_end(decoded):
            _, event, text = decoded
            if is_full and len(text) > _MAX_END:
                self._lose(instance_id)
                decoded = instance_id, event, ""
        elif is_full or instance_id in self._lost:
            # From the first one on that is lost, all are: so that there is one gap, and it's behind what is kept.
            self._lose(instance_id)
            return
        if kept or len(self._events) < _MAX_INSTANCES:
            self._events.setdefault(instance_id, []).append(decoded)
            self._size += _size(decoded)

    def _lose(self, instance_id: str) -> None:
        if instance_id in self._lost or len(self._lost) < _MAX_INSTANCES:
            self._lost[instance_id] = self._lost.get(instance_id, 0) + 1

    def take(self, instance_id: str) -> tuple[list[Any], int]:
        """Return what was kept of an instance, in order, and how much was lost behind that, but before the end."""
        events = self._events.pop(instance_id, [])
        self._size -= sum(map(_size, events))
        return events, self._lost.pop(instance_id, 0)

    def clear(self) -> None:
        """Drop everything."""
        self._events.clear()
        self._lost.clear()
        self._size = 0


def _is_end(decoded: Any) -> bool:
    return isinstance(decoded, tuple) and decoded[1].terminal


def _size(decoded: Any) -> int:
    return _EVENT_SIZE + len(decoded[2] if isinstance(decoded, tuple) else decoded.data)
