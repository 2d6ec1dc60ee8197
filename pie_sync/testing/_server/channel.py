"""The outgoing queue of one client: answers and outputs, which a thread sends in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Callable, Union

from .._network.websocket import Message, NothingSentError
from .._programs.instance import Output
from .._programs.mailbox import clamp_timeout

__all__ = ["Channel"]

# Programs wait while more than this is queued. An attach may exceed it: it queues all output that was kept.
MAX_QUEUED_BYTES = 1024 * 1024
BATCH_BYTES = 256 * 1024
ITEM_OVERHEAD = 64

Item = Union[Message, Output]


class Channel:
    """A queue of answers and outputs, and the loop that sends them. The receiver of a connection's instances.

    Only :meth:`wait_until_writable`, :meth:`drain` and :meth:`run` block. So a client that does not read stops the
    programs that it is attached to, and nothing else. Safe to use from any thread.

    Args:
        transmit: sends messages; may block. Raises NothingSentError if the connection was lost before the first
            message, and another OSError if it was lost later.
        encode: encodes an output as messages.
    """

    def __init__(
        self,
        transmit: Callable[[Iterable[Message]], None],
        encode: Callable[[Output], Iterable[Message]],
    ) -> None:
        self._transmit = transmit
        self._encode = encode
        self._queue: deque[Item] = deque()
        self._delay = 0.0
        # Items that come after those of the queue, each with the time.monotonic() at which the delay began.
        self._delayed: deque[tuple[float, Item]] = deque()
        self._queued_bytes = 0  # in _queue and _delayed
        self._closed = False
        self._muted = False
        self._sending = False
        self._lost = False
        # Guards the eight above.
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)  # notified when items are added, and by close()
        self._emptied = threading.Condition(self._lock)  # notified when items are sent, and by wake() and close()

    def answer(self, message: Message) -> None:
        """Queue a message; does nothing if the channel is closed."""
        with self._lock:
            self._put(message)

    def deliver(self, output: Output) -> bool:
        """Queue an output; return False if the channel is closed."""
        with self._lock:
            return self._put(output)

    def wait_until_writable(self, cancelled: Callable[[], bool]) -> None:
        """Block while too much is queued, until the channel is closed or ``cancelled()`` is true.

        A call of :meth:`wake` makes it check ``cancelled()`` again.
        """
        if self._queued_bytes < MAX_QUEUED_BYTES:  # read without the lock: the limit need not be exact
            return
        with self._lock:
            self._emptied.wait_for(lambda: self._queued_bytes < MAX_QUEUED_BYTES or self._closed or cancelled())

    def wake(self) -> None:
        """Make waiting calls check their ``cancelled`` again."""
        with self._lock:
            self._emptied.notify_all()

    def set_delay(self, seconds: float) -> None:
        """Send all later and all delayed items that many seconds after they were queued, in order."""
        with self._lock:
            self._delay = seconds
            self._filled.notify_all()

    def drain(self, timeout: float) -> None:
        """Block until everything is sent or nothing can be sent, but for the delay and ``timeout`` s at most."""
        with self._lock:
            self._emptied.wait_for(lambda: self._is_done or not self._delayed)
            self._emptied.wait_for(lambda: self._is_done or not (self._queue or self._sending), timeout)

    def close(self) -> None:
        """Accept no more items, and send none but those that are being sent at this moment."""
        with self._lock:
            self._closed = True
            self._filled.notify_all()
            self._emptied.notify_all()

    def mute(self) -> None:
        """Drop what is queued, and everything from now on, as if it was sent."""
        with self._lock:
            self._muted = True
            self._queue.clear()
            self._delayed.clear()
            self._queued_bytes = 0
            self._emptied.notify_all()

    def unsent(self) -> list[Output]:
        """Return the outputs that were not sent. Call this after :meth:`run` has returned."""
        with self._lock:
            items = [*self._queue, *(item for _, item in self._delayed)]
        return [item for item in items if isinstance(item, Output)]

    def run(self) -> None:
        """Send items until the channel is closed or the connection is lost. Blocks in between."""
        while True:
            batch = self._take()
            if not batch:
                return
            lost, unsent = self._try_to_send(batch)
            with self._lock:
                self._queue.extendleft(reversed(unsent))
                self._sending = False
                self._lost = lost
                self._emptied.notify_all()
            if lost:
                return

    def _try_to_send(self, batch: list[Item]) -> tuple[bool, list[Item]]:
        """Send a batch. Return whether the connection is lost, and the items that were certainly not sent."""
        try:
            self._transmit(self._messages(batch))
        except NothingSentError:
            return True, batch
        except OSError:
            return True, []  # some of it may have arrived, so it is dropped, as by a real server
        return False, []

    @property
    def _is_done(self) -> bool:
        return self._lost or self._closed

    def _put(self, item: Item) -> bool:
        if self._closed:
            return False
        if self._muted:
            return True
        if self._delay or self._delayed:
            self._delayed.append((time.monotonic(), item))
        else:
            self._queue.append(item)
        self._queued_bytes += _size(item)
        self._filled.notify()
        return True

    def _take(self) -> list[Item]:
        """Block until there are items and return some of them, in order; none if the channel is closed."""
        with self._lock:
            while not (self._queue or self._closed):
                self._filled.wait(self._seconds_until_due())
                self._queue_due_items()
            batch: list[Item] = []
            size = 0
            while self._queue and size < BATCH_BYTES and not self._closed:
                item = self._queue.popleft()
                size += _size(item)
                batch.append(item)
            self._queued_bytes -= size
            self._sending = bool(batch)
            self._emptied.notify_all()
        return batch

    def _seconds_until_due(self) -> float | None:
        """Return the seconds until the first delayed item is due; None if there is none."""
        return clamp_timeout(self._delayed[0][0] + self._delay - time.monotonic()) if self._delayed else None

    def _queue_due_items(self) -> None:
        """Move the delayed items that are due into the queue."""
        while self._seconds_until_due() == 0:
            self._queue.append(self._delayed.popleft()[1])

    def _messages(self, batch: Iterable[Item]) -> Iterator[Message]:
        for item in batch:
            if isinstance(item, Output):
                yield from self._encode(item)
            else:
                yield item


def _size(item: Item) -> int:
    return ITEM_OVERHEAD + len(item.data if isinstance(item, Output) else item)
