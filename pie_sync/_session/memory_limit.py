"""Bounds the memory of the events that nobody consumes.

The reader thread must not stop reading because one instance is not consumed: other instances, answers and pings
have to go on, and a server stalls *all* its clients when one of them doesn't read. So the reader thread takes
events from the connection in any case. Past a limit those of the fullest instances go to disk, from where they
come back in order.

The queues share their temporary files: 10 000 instances may spill, and a process may have 1 024 open files. With
a file for each, 500 000 events of 10 000 instances took over ten minutes, since the first file that could not be
opened counted as a full disk; shared, they take 2 s.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING
from weakref import WeakSet

from .event_queue import ITEM_SIZE
from .spill_file import SpillSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .event_queue import EventQueue, Item

__all__ = ["MemoryLimit"]

logger = logging.getLogger("pie_sync.transfer")

#: From how many bytes on a file is large enough, so that the next events go to another one. It is given back when
#: everything in it is consumed.
_SPACE_SIZE = 256 * 1024 * 1024

#: How many seconds to look through all events is nothing, also with every event.
_QUICK = 0.001


class MemoryLimit:
    """The memory limit of all event queues of one session. Only the reader thread uses it.

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
        self._space: SpillSpace | None = None
        # Why the disk takes nothing more, and from when on to try again, by ``time.monotonic``.
        self._full: OSError | None = None
        self._next_try = 0.0

    def watch(self, events: EventQueue) -> None:
        """Count the events of one more instance."""
        self._queues.add(events)
        if self._full is not None:
            events.fast_path = False

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
            if self._full is not None:
                if monotonic() < self._next_try:
                    raise self._full.with_traceback(None)
                self._relieve()  # by now it may have room again, or something may have been consumed
                self._full = None
            events.put_batch(items)
        except OSError as error:
            if events.put_loss(len(items), f"too many are not consumed, and the disk is full ({error})"):
                logger.error("events are lost: %s", error)
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
                for events in self._queues:
                    events.fast_path = False  # so that all further ones come through put()

    def _relieve(self) -> None:
        """Move the events of the fullest queues to the disk, until what stays in memory is little enough.

        Raises:
            OSError: the disk is full.
        """
        begin = monotonic()
        try:
            self._spill_the_fullest()
        except OSError as error:
            self._full = error
            self._space = None  # perhaps it's only that file that can't grow any more
            # It looked at everything that there is. The connection must not stand still for that if it takes long.
            now = monotonic()
            self._next_try = now + 10 * (now - begin) if now - begin > _QUICK else now
            raise

    def _spill_the_fullest(self) -> None:
        sizes = {events: events.memory_size() for events in self._queues}
        total = sum(sizes.values())
        # A queue with a waiting consumer is left alone: a large blob that is about to be taken needs no detour.
        sizes = {events: size for events, size in sizes.items() if size and not events.waiting}
        for events in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if total <= self._max_bytes:
                break
            logger.debug("moving %d bytes of events to disk", sizes[events])
            # All into few files: there may be more instances than a process may have open files.
            if self._space is None or self._space.is_closed or self._space.size > _SPACE_SIZE:
                self._space = SpillSpace()
            events.spill(self._space)
            self.spills += 1
            total -= sizes[events]
        self._bytes = total
        # An eighth on top, so that queues just below the limit are not measured again with every event.
        self._next_look = max(self._max_bytes, total + self._max_bytes // 8)
