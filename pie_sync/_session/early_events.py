"""Buffers events whose launch or attach has not been answered yet."""

from __future__ import annotations

from typing import Any

__all__ = ["EarlyEvents"]

#: The most bytes that are kept, with the sizes below added. As much again may be taken by what is kept beyond
#: that: ends, and the ids of instances whose events are counted as lost.
_LIMIT = 16 * 1024 * 1024

#: What an event takes in memory besides its text.
_EVENT_SIZE = 200

#: What an instance takes besides its id: its place among the others, and that of its end.
_INSTANCE_SIZE = 600

#: The longest text of a terminal event that is kept beyond the limit.
_MAX_END = 1000


class EarlyEvents:
    """Keeps the events of instances that are not known yet, up to a limit.

    Beyond the limit events are counted, but an end is kept, if need be without its text: who waits for an instance
    must hear of it. Beyond twice the limit new instances are not recorded any more, until everything is dropped
    (:meth:`clear`); :meth:`take` says so.

    Not thread-safe: the lock of :class:`PendingRequests` guards it.

    Attributes:
        is_empty: whether nothing has come since the last :meth:`clear`; nearly always so. May be read without the
            lock by the thread that adds events.
    """

    def __init__(self) -> None:
        self.is_empty = True
        self._events: dict[str, list[Any]] = {}
        self._lost: dict[str, int] = {}
        self._size = 0
        self._is_unsure = False

    def add(self, instance_id: str, decoded: Any) -> None:
        """Keep an event or a chunk; beyond the limit, only count it. Events behind a terminal one are ignored."""
        self.is_empty = False
        kept = self._events.get(instance_id)
        if kept is None:
            size = _INSTANCE_SIZE + len(instance_id)
            if self._is_unsure or self._size + size > 2 * _LIMIT:
                self._is_unsure = True  # from here on: a record without its beginning would look like a whole one
                return
            kept = self._events[instance_id] = []
            self._size += size
        elif kept and _is_end(kept[-1]):
            return
        size = _size(decoded)
        if _is_end(decoded):
            _, event, text = decoded
            limit = 2 * _LIMIT if len(text) <= _MAX_END else _LIMIT
            if self._size + size > limit:
                self._lost[instance_id] = self._lost.get(instance_id, 0) + 1
                decoded, size = (instance_id, event, ""), 0  # its place was counted with the instance
        elif self._size + size > _LIMIT or instance_id in self._lost:
            # Once an event is lost, all later ones are: so there is one gap, and it is behind what is kept.
            self._lost[instance_id] = self._lost.get(instance_id, 0) + 1
            return
        kept.append(decoded)
        self._size += size

    def take(self, instance_id: str) -> tuple[list[Any], int | None]:
        """Hand out what came of an instance, once.

        Returns:
            The kept events, in order, and how many were lost between them and the end. None: nobody knows, since
            too many instances sent events; even the end may be lost.
        """
        events = self._events.pop(instance_id, None)
        if events is None:
            return [], None if self._is_unsure else 0
        self._size -= _INSTANCE_SIZE + len(instance_id) + sum(map(_size, events))
        return events, self._lost.pop(instance_id, 0)

    def clear(self) -> None:
        """Drop everything."""
        self.is_empty = True
        self._events.clear()
        self._lost.clear()
        self._size = 0
        self._is_unsure = False


def _is_end(decoded: Any) -> bool:
    return isinstance(decoded, tuple) and decoded[1].terminal


def _size(decoded: Any) -> int:
    """Return what an event takes; nothing for an end without a text."""
    if isinstance(decoded, tuple):
        is_bare_end = decoded[1].terminal and not decoded[2]
        return 0 if is_bare_end else _EVENT_SIZE + len(decoded[2])
    return _EVENT_SIZE + len(decoded.data)
