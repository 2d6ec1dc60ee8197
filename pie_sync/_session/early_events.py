"""Buffers events whose launch or attach has not been answered yet."""

from __future__ import annotations

from typing import Any

__all__ = ["EarlyEvents"]

#: The most bytes that are kept, with _EVENT_SIZE added for each event.
_LIMIT = 16 * 1024 * 1024
_EVENT_SIZE = 200

#: Of how many instances events are kept, or counted as lost.
_MAX_INSTANCES = 10_000

#: The longest text of a terminal event that is kept in any case.
_MAX_END = 1000


class EarlyEvents:
    """Keeps the events of instances that are not known yet, up to a limit.

    Not thread-safe: the lock of :class:`PendingRequests` guards it.
    """

    def __init__(self) -> None:
        self._events: dict[str, list[Any]] = {}
        self._lost: dict[str, int] = {}
        self._size = 0

    def add(self, instance_id: str, decoded: Any) -> None:
        """Keep an event or a chunk; beyond the limit, only count it.

        A terminal event is always kept, if need be without its text. Events behind it are ignored.
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
            # Once an event is lost, all later ones are: so there is one gap, and it is behind what is kept.
            self._lose(instance_id)
            return
        if kept or len(self._events) < _MAX_INSTANCES:
            self._events.setdefault(instance_id, []).append(decoded)
            self._size += _size(decoded)

    def _lose(self, instance_id: str) -> None:
        if instance_id in self._lost or len(self._lost) < _MAX_INSTANCES:
            self._lost[instance_id] = self._lost.get(instance_id, 0) + 1

    def take(self, instance_id: str) -> tuple[list[Any], int]:
        """Return the kept events of an instance, in order, and how many were lost between them and the end."""
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
