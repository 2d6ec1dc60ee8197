"""What the server has to tell one client, in order, sent by a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Callable, Union

from .._programs.instance import Output
from .._programs.mailbox import bounded

__all__ = ["Channel", "Message", "NothingSentError"]

# Programs wait while more than this is queued. A buffer that is attached to may be larger, and is sent whole.
ROOM = 1024 * 1024
BATCH = 256 * 1024
ITEM_OVERHEAD = 64

Message = Union[bytes, str]
Item = Union[Message, Output]


class NothingSentError(OSError):
    """The connection was lost before anything of a batch was sent."""


class Channel:
    """A queue of answers and outputs, and the loop that sends them. The receiver of a connection's instances.

    Nothing but :meth:`wait_for_room`, :meth:`drain` and :meth:`run` ever blocks, so that a client that does not
    read stops the programs that it is attached to, and nothing else.

    Args:
        transmit: sends messages, bytes in binary frames and str in text frames; may block; raises
            NothingSentError or another OSError when the connection is lost, the first if that was so before it
            began.
        encode: makes the messages for an output.
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
        # What comes behind the queue when there is a delay: each item with the time.monotonic() at which it came.
        self._held: deque[tuple[float, Item]] = deque()
        self._queued_bytes = 0  # of both
        self._closed = False
        self._sending = False
        self._lost = False
        # Guards the seven above.
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)  # there may be something to send, or it is closed
        self._emptied = threading.Condition(self._lock)  # there may be room, or wake()

    def answer(self, message: Message) -> None:
        """Queue a message; without effect when the channel is closed."""
        with self._lock:
            self._put(message)

    def deliver(self, output: Output) -> bool:
        """Queue an output; False when the channel is closed."""
        with self._lock:
            return self._put(output)

    def wait_for_room(self, give_up: Callable[[], bool]) -> None:
        """Block while too much is queued and neither the channel is closed nor ``give_up()``."""
        if self._queued_bytes < ROOM:  # a stale number is as good as any
            return
        with self._lock:
            self._emptied.wait_for(lambda: self._queued_bytes < ROOM or self._closed or give_up())

    def wake(self) -> None:
        """Make waiting calls look at their ``give_up`` again."""
        with self._lock:
            self._emptied.notify_all()

    def hold_back(self, seconds: float) -> None:
        """Send what comes from now on, and what is held back already, so many seconds after it came; in order."""
        with self._lock:
            self._delay = seconds
            self._filled.notify_all()

    def drain(self, timeout: float) -> None:
        """Wait until everything is sent or nothing can be; at most ``timeout`` s beyond what is held back."""
        with self._lock:
            self._emptied.wait_for(lambda: self._is_over or not self._held)
            self._emptied.wait_for(lambda: self._is_over or not (self._queue or self._sending), timeout)

    def close(self) -> None:
        """Take nothing more and send nothing more, but for what is being sent this moment."""
        with self._lock:
            self._closed = True
            self._filled.notify_all()
            self._emptied.notify_all()

    def unsent(self) -> list[Output]:
        """Return the outputs that were not sent; to be called when :meth:`run` has ended."""
        with self._lock:
            items = [*self._queue, *(item for _, item in self._held)]
        return [item for item in items if isinstance(item, Output)]

    def run(self) -> None:
        """Send until the channel is closed or the connection is lost."""
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
        """Return whether the connection is lost, and what then is known not to have been sent."""
        try:
            self._transmit(self._messages(batch))
        except NothingSentError:
            return True, batch
        except OSError:
            return True, []  # some of it may have arrived: as with a real server, it is gone
        return False, []

    @property
    def _is_over(self) -> bool:
        return self._lost or self._closed

    def _put(self, item: Item) -> bool:
        if self._closed:
            return False
        if self._delay or self._held:
            self._held.append((time.monotonic(), item))
        else:
            self._queue.append(item)
        self._queued_bytes += _size(item)
        self._filled.notify()
        return True

    def _take(self) -> list[Item]:
        """Wait for items and return some of them, in order; none when the channel is closed."""
        with self._lock:
            while not (self._queue or self._closed):
                self._filled.wait(self._seconds_to_go())
                self._release()
            batch: list[Item] = []
            size = 0
            while self._queue and size < BATCH and not self._closed:
                item = self._queue.popleft()
                size += _size(item)
                batch.append(item)
            self._queued_bytes -= size
            self._sending = bool(batch)
            self._emptied.notify_all()
        return batch

    def _seconds_to_go(self) -> float | None:
        """Return when the first item that is held back may go; None if there is none."""
        return bounded(self._held[0][0] + self._delay - time.monotonic()) if self._held else None

    def _release(self) -> None:
        """Queue what has been held back for long enough."""
        while self._seconds_to_go() == 0:
            self._queue.append(self._held.popleft()[1])

    def _messages(self, batch: Iterable[Item]) -> Iterator[Message]:
        for item in batch:
            if isinstance(item, Output):
                yield from self._encode(item)
            else:
                yield item


def _size(item: Item) -> int:
    return ITEM_OVERHEAD + len(item.data if isinstance(item, Output) else item)
