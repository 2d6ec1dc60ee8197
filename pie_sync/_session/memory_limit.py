"""Bounds the memory of the events that nobody consumes.

The reader thread must not stop reading because one instance is not consumed: other instances, answers and pings
have to go on, and a server stalls *all* its clients when one of them doesn't read. So the reader thread takes
events from the connection in any case. Past a limit those of the fullest instances go to disk, from where they
come back in order. Where there is no disk to take them, the fullest instances lose what is too much.

The queues share their temporary files: 10 000 instances may spill, and a process may have 1 024 open files. With
a file for each, 500 000 events of 10 000 instances took over ten minutes, since the first file that could not be
opened counted as a full disk. Shared, they took 2 s.
"""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING
from weakref import WeakSet, ref

from .._support.freed_memory import give_back_freed_memory
from .event_queue import memory_size
from .spill_file import SpillSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .event_queue import EventQueue, Item

__all__ = ["MemoryLimit"]

logger = logging.getLogger("pie_sync.transfer")

#: How many seconds to look through all events is nothing, also with every event.
_QUICK = 0.001

#: How many references to queues that are gone stay at the most, besides as many as there are queues.
_PURGE = 1000

#: For how many seconds freed memory stays with the process, at the least: giving it back takes some milliseconds.
_TRIM_INTERVAL = 1.0


class MemoryLimit:
    """The memory limit of all event queues of one client, over all its connections. Thread-safe.

    Only reader threads put events in: one, but for the moment in which a connection that was closed still ends.

    Args:
        max_bytes: how much memory they may take, about.

    Attributes:
        spills: how often the events of an instance were moved to disk.
    """

    def __init__(self, max_bytes: int) -> None:
        self.spills = 0
        self._max_bytes = max_bytes
        # What is looked for when it is too much: less, so that not every event is too much again.
        self._goal = max_bytes - max_bytes // 8
        # Guards everything here but the set of queues. Only reader threads take it.
        self._lock = threading.Lock()
        # Weak: what belongs to an instance that nobody holds any more takes no memory. Purged now and then, not at
        # each end, as a WeakSet is. A list: the next queue is often where one was freed, and references to objects
        # of one place all have the same hash, so in a set each would be compared with hundreds.
        self._references: list[ref[EventQueue]] = []
        self._next_purge = _PURGE
        # An upper bound: consumption isn't counted until it matters.
        self._bytes = 0
        self._next_look = max_bytes
        self._space = SpillSpace()
        # Why the disk takes nothing more; when to try again, by ``time.monotonic``; and which queues pay for it.
        self._full: Exception | None = None
        self._next_try = 0.0
        self._fullest: WeakSet[EventQueue] = WeakSet()
        # When freed memory may be given back next.
        self._next_trim = 0.0

    def watch(self, events: EventQueue) -> None:
        """Count the events of one more instance, or of one that is on another connection now."""
        with self._lock:
            self._references.append(ref(events))
            if len(self._references) > self._next_purge:
                # A queue has one reference object, however often it was asked for.
                references = {id(reference): reference for reference in self._references}
                self._references = [one for one in references.values() if one() is not None]
                self._next_purge = 2 * len(self._references) + _PURGE
            if self._full is not None:
                events.fast_path = False

    def _queues(self) -> list[EventQueue]:
        """Return the queues that are still there. From any thread."""
        # A copy is one step: the reader thread may add one meanwhile.
        queues = dict.fromkeys(reference() for reference in self._references.copy())
        return [events for events in queues if events is not None]

    def spilled_bytes(self) -> int:
        """Return how many bytes are on disk. From any thread; never waits."""
        return sum(events.spilled_size() for events in self._queues())

    def put(self, events: EventQueue, items: Sequence[Item]) -> None:
        """Put events into their queue, and whatever is too much onto the disk.

        When the disk is full, the fullest queues keep what they have, but for what the others need room for, and
        lose what comes after; the consumer is told. A terminal event does not come through here.
        """
        with self._lock:
            pays = events in self._fullest
            if self._full is not None and (monotonic() >= self._next_try or (pays and events.empty())):
                self._relieve()  # by now it may have room again, or something may have been consumed
            if events in self._fullest:
                self._lose(events, items)
                return
            events.put_batch(items)
            self._bytes += sum(memory_size(data) for _, data in items)
            if self._bytes > self._next_look:
                self._shrink()
            if self._full is not None:
                events.fast_path = False  # so that what comes next comes through here as well

    def _lose(self, events: EventQueue, items: Sequence[Item]) -> None:
        if events.put_loss(len(items), self._reason()):
            logger.error("events are lost: %s", self._full)

    def _reason(self) -> str:
        return f"too many are not consumed, and the disk is full ({self._full})"

    def grown(self, size: int) -> None:
        """Take note that events of ``size`` bytes were put into queues; move some to disk if it is too much."""
        with self._lock:
            self._bytes += size
            if self._bytes > self._next_look:
                self._shrink()

    def _shrink(self) -> None:
        if self._full is None:
            self._relieve()
        else:
            self._make_room()

    def _relieve(self) -> None:
        """Move the events of the fullest queues to the disk, until what stays in memory is little enough."""
        begin = monotonic()
        was_full, self._full = self._full, None
        sizes = {events: events.memory_size() for events in self._queues()}
        self._bytes = sum(sizes.values())
        # A queue with a waiting consumer is left alone: a large blob that is about to be taken needs no detour.
        spillable = {events: size for events, size in sizes.items() if size and not events.waiting}
        try:
            for events in sorted(spillable, key=spillable.__getitem__, reverse=True):
                if self._bytes <= self._goal:
                    break
                logger.debug("moving %d bytes of events to disk", sizes[events])
                events.spill(self._space)
                self.spills += 1
                self._bytes -= sizes.pop(events)
        except (OSError, MemoryError) as error:
            self._full = error.with_traceback(None)
            if was_full is None:
                logger.error("can't move events that are not consumed to disk: %s", error)
            # It looked at everything that there is. The connection must not stand still for that if it takes long.
            now = monotonic()
            self._next_try = now + 10 * (now - begin) if now - begin > _QUICK else now
            self._set_fullest(sizes)
            self._next_look = max(self._max_bytes, self._bytes)
            for events in self._queues():
                events.fast_path = False  # so that all further ones come through put()
        else:
            self._fullest.clear()
            # Queues just below the limit are not measured again with every event.
            self._next_look = max(self._max_bytes, self._bytes + self._max_bytes // 8)
            if monotonic() >= self._next_trim:
                give_back_freed_memory()
                self._next_trim = monotonic() + _TRIM_INTERVAL

    def _make_room(self) -> None:
        """Let the fullest queues lose their newest events, until what stays in memory is little enough."""
        sizes = {events: events.memory_size() for events in self._queues()}
        level = self._set_fullest(sizes)
        for events in self._fullest:
            if events.cut(level, self._reason()):
                logger.error("events are lost: %s", self._full)
                sizes[events] = events.memory_size()
        self._bytes = sum(sizes.values())
        self._next_look = max(self._max_bytes, self._bytes)

    def _set_fullest(self, sizes: dict[EventQueue, int]) -> int:
        """Find the queues that fill the memory: those above the level that all could have. Return that level."""
        left, level = self._goal, 0
        ascending = sorted(sizes, key=sizes.__getitem__)
        self._fullest.clear()
        for index, events in enumerate(ascending):
            level = left // (len(ascending) - index)
            if sizes[events] > level:
                self._fullest.update(ascending[index:])
                break
            left -= sizes[events]
        return level
