"""Keeps the memory bounded that events take which nobody consumes.

The reader thread must not stop reading because one instance is not consumed: other instances, answers and pings
have to go on, and a server stalls *all* its clients when one of them doesn't read. So events are taken from the
connection in any case, and past a limit those of the fullest instance go to disk, from where they come back in
order.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from weakref import WeakSet

from ._queue import ITEM_SIZE
from .errors import PieError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._queue import EventQueue, Item

__all__ = ["Backlog"]

logger = logging.getLogger("pie_sync.transfer")


class Backlog:
    """All events of one session that are not consumed yet. Only the reader thread uses it.

    Args:
        max_bytes: how much memory they may take, about.

    Attributes:
        spills: how often the events of an instance were moved to disk.
    """

    def __init__(self, max_bytes: int) -> None:
        self.spills = 0
        self._max_bytes = max_bytes
        # Weak: what belongs to an instance that nobody holds any more takes no memory.
        self._queues: WeakSet[EventQueue] = WeakSet()
        # An upper bound: consumption isn't counted until it matters.
        self._bytes = 0
        self._next_look = max_bytes
        self._disk_is_full = False

    def watch(self, events: EventQueue) -> None:
        """Count the events of one more instance."""
        self._queues.add(events)
        if self._disk_is_full:
            events.direct = False

    def spilled_bytes(self) -> int:
        """Return how many bytes are on disk. From any thread."""
        while True:
            try:
                queues = list(self._queues)
            except RuntimeError:  # the reader thread has added one meanwhile
                continue
            return sum(events.spilled_size() for events in queues)

    def put(self, events: EventQueue, items: Sequence[Item]) -> None:
        """Put events into their queue, and whatever is too much onto the disk.

        When the disk is full, what is in memory stays there, and what comes after is lost: the consumer is told.
        """
        try:
            if self._disk_is_full:
                self._relieve()  # by now it may have room again, or something may have been consumed
                self._disk_is_full = False
            events.put_batch(items)
        except OSError as error:
            logger.error("%d events are lost: %s", len(items), error)
            events.put_error(
                PieError(
                    f"{len(items)} events are lost: too many are not consumed, and the disk is full ({error})"
                )
            )
        else:
            self.grown(ITEM_SIZE * len(items) + sum(len(data) for _, data in items))

    def grown(self, size: int) -> None:
        """Take note that ``size`` bytes of events were put into queues; move some to disk if it is too much."""
        self._bytes += size
        if self._bytes > self._next_look:
            try:
                self._relieve()
            except OSError as error:
                logger.error("can't move events that are not consumed to disk: %s", error)
                self._disk_is_full = True
                for events in self._queues:
                    events.direct = False  # so that all further ones come through put()

    def _relieve(self) -> None:
        sizes = {events: events.memory_size() for events in self._queues}
        total = sum(sizes.values())
        # What somebody waits for is not a backlog: a large blob on its way to him needs no detour over the disk.
        sizes = {events: size for events, size in sizes.items() if not events.waiting}
        while total > self._max_bytes and sizes:
            fullest = max(sizes, key=sizes.__getitem__)
            logger.debug("moving %d bytes of events to disk", sizes[fullest])
            fullest.spill()
            self.spills += 1
            total -= sizes.pop(fullest)
        self._bytes = total
        # An eighth on top, so that a backlog just below the limit isn't counted again with every event.
        self._next_look = max(self._max_bytes, total + self._max_bytes // 8)
