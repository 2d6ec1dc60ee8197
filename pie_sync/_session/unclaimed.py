"""Instances that the server attached to this client when nobody waited for them any more."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from .event_queue import EventQueue

__all__ = ["UnclaimedInstances"]

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

    def claim(self, instance_id: str) -> EventQueue | None:
        """Hand out the queue of an instance, once. None if there is none."""
        if instance_id not in self._queues:
            return None
        with self._lock:
            self._forget_end(instance_id)
            return self._queues.pop(instance_id, None)

    def end(self, instance_id: str) -> None:
        """Note that an instance has ended, claimed or not; drop those that ended first if there are too many."""
        if instance_id not in self._queues:
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
