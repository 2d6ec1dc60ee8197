"""Instances that the server attached to this client when nobody waited for them any more."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from .event_queue import EventQueue

__all__ = ["Attachment", "UnclaimedInstances"]

logger = logging.getLogger("pie_sync.protocol")

#: The most bytes of events, in memory and on disk, of instances that have ended without being claimed.
_MAX_ENDED_BYTES = 64 * 1024 * 1024

#: What such an instance takes besides its events.
_INSTANCE_SIZE = 2048


class UnclaimedInstances:
    """The event queues that wait to be claimed, by the ids of their instances. Thread-safe.

    The rule: an instance that runs stays, since its events can come only to this connection; :class:`MemoryLimit`
    bounds the memory of its queue. Of those that have ended the latest stay, as many as take 64 MiB together, and
    one in any case.
    """

    def __init__(self) -> None:
        # Guards everything below. Not for finalizers.
        self._lock = threading.Lock()
        self._queues: dict[str, EventQueue] = {}
        # How many bytes those take that have ended, in the order of their ends.
        self._ended: dict[str, int] = {}
        self._ended_bytes = 0

    def add(self, instance_id: str, events: EventQueue) -> None:
        """Keep a queue until somebody claims it."""
        with self._lock:
            self._queues[instance_id] = events
        if events.terminal is not None:
            self.end(instance_id)

    def claim(self, instance_id: str) -> EventQueue | None:
        """Hand out the queue of an instance, once. None if there is none."""
        if instance_id not in self._queues:
            return None
        with self._lock:
            events = self._queues.pop(instance_id, None)
            # Last of all no call: a signal handler may raise after one, and the lock would stay acquired.
            self._ended_bytes -= self._ended.pop(instance_id, 0)
        return events

    def end(self, instance_id: str) -> None:
        """Note that an instance has ended, claimed or not; drop those that ended first if there are too many."""
        if instance_id not in self._queues:  # nearly always; only the reader thread adds any
            return
        dropped = []
        with self._lock:
            events = self._queues.get(instance_id)
            if events is None or instance_id in self._ended:
                return
            size = _INSTANCE_SIZE + events.memory_size() + events.spilled_size()
            self._ended[instance_id] = size
            self._ended_bytes += size
            while self._ended_bytes > _MAX_ENDED_BYTES and len(self._ended) > 1:
                oldest = next(iter(self._ended))
                self._forget_end(oldest)
                dropped.append((oldest, self._queues.pop(oldest)))
        for oldest, _ in dropped:
            logger.warning("instance %s has ended, and nobody has attached to it: its events are dropped", oldest)

    def end_all_but(self, running: Container[str]) -> None:
        """Note that all instances but these have ended."""
        for instance_id in self._queues.copy():
            if instance_id not in running:
                self.end(instance_id)

    def events_queued(self) -> dict[str, int]:
        """Return how many events wait in memory, for each instance."""
        return {instance_id: events.qsize() for instance_id, events in self._queues.copy().items()}

    def _forget_end(self, instance_id: str) -> None:
        self._ended_bytes -= self._ended.pop(instance_id, 0)


#: The one key of Attachment._outcome.
_QUEUE = "queue"


class Attachment:
    """The queue that a launch or an attach brings for the thread that waits for the answer.

    That thread may give up at the moment in which the answer comes. ``dict.setdefault`` is atomic, so either that
    thread or the reader thread finds what the other has left, and the queue is never lost.

    Args:
        unclaimed: where to put the queue of a thread that has given up.
    """

    __slots__ = ("_outcome", "_unclaimed")

    def __init__(self, unclaimed: UnclaimedInstances) -> None:
        self._unclaimed = unclaimed
        # The id and the queue, or None if the thread has given up: whichever came first.
        self._outcome: dict[str, tuple[str, EventQueue] | None] = {}

    def arrive(self, instance_id: str, events: EventQueue) -> None:
        """Bring the queue. In the reader thread."""
        if self._outcome.setdefault(_QUEUE, (instance_id, events)) is None:
            self._unclaimed.add(instance_id, events)

    def give_up(self) -> None:
        """Leave the queue to whoever claims it, also one that is yet to come."""
        arrived = self._outcome.setdefault(_QUEUE, None)
        if arrived is not None:
            self._unclaimed.add(*arrived)

    @property
    def events(self) -> EventQueue:
        """The queue, once it is there."""
        arrived = self._outcome[_QUEUE]
        assert arrived is not None
        return arrived[1]
