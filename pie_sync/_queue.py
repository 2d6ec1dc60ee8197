"""The queue between the reader thread and whoever consumes an instance."""

from __future__ import annotations

import queue
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Union

from ._spill import SpillFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .events import Event

__all__ = ["EventQueue", "Item"]

#: One event: its kind and its text or bytes. A plain tuple, since one is made for every event.
Item = tuple["Event", Union[str, bytes]]

#: What an event takes in memory besides its text: the tuple, the head of the str, its place in the deque.
_ITEM_SIZE = 120

#: About how many bytes of events come back from the disk at a time.
_PIECE_SIZE = 256 * 1024


class EventQueue(queue.Queue):  # type: ignore[type-arg]  # not subscriptable at run time before Python 3.9.2
    """A ``queue.Queue`` of events that takes them in batches, and that ends.

    Differences to its base class, each for the sake of speed or of order:

    - :meth:`put_batch` adds any number of events under one lock acquisition, with one wake-up.
    - :meth:`get` takes an event that is there without the lock. ``deque.popleft`` is atomic, so every event
      still goes to exactly one consumer; only a consumer that finds nothing takes the lock and waits. This is
      0.1 us for an event instead of 1.2 us.
    - Behind the events in memory there may be other things (``_behind``): errors, which have their place in the
      order of events, and events on disk (:meth:`spill`). They are met only by a consumer that finds the deque
      empty, so they cost nothing while events come. So is the end, behind everything else (:meth:`end`).
    - It is not bounded, and ``join``/``task_done`` are not kept up.

    Attributes:
        terminal: the terminal event once it has *arrived*, which may be long before it is consumed.
        staged: events on their way into the queue. Only the reader thread touches it.
    """

    #: Errors that wait to be consumed; what a server does wrong beyond that is not worth the memory.
    MAX_ERRORS = 100

    def __init__(self) -> None:
        super().__init__()
        self.terminal: tuple[Event, str] | None = None
        self.staged: list[Item] = []
        self._behind: deque[Exception | deque[Item] | SpillFile] = deque()
        self._errors = 0
        self._waiting = 0
        self._ending: Callable[[], Exception] | None = None
        self._wake: Callable[[], None] | None = None  # see when_ended()
        # What is in memory, by batch: (number of events, bytes). Consumers don't update it, see memory_size().
        self._sizes: deque[tuple[int, int]] = deque()
        self._sized_items = 0
        self._sized_bytes = 0

    def __del__(self) -> None:
        for part in self._behind:
            if isinstance(part, SpillFile):
                part.close()

    @property
    def has_waiting_consumer(self) -> bool:
        """Whether somebody is waiting, or has been woken just now, for what comes."""
        return self._waiting > 0

    @property
    def exhausted(self) -> bool:
        """Whether the end was put and everything before it is consumed."""
        return self._ending is not None and not self.queue and not self._behind

    def put_batch(self, items: Sequence[Item]) -> int:
        """Add events and wake as many consumers as there are events. Never waits for a consumer.

        Returns:
            How many bytes of memory they take.

        Raises:
            OSError: they belong on the disk, and it is full. They are lost.
        """
        with self.mutex:
            last = self._behind[-1] if self._behind else self.queue
            if isinstance(last, SpillFile):
                last.write(items)
                size = 0
            else:
                if isinstance(last, Exception):
                    last = deque()
                    self._behind.append(last)
                last.extend(items)
                size = self._add_size(items)
            self.not_empty.notify(len(items))
        return size

    def put_error(self, error: Exception) -> None:
        """Add an error: the consumer that reaches it gets it raised, once; the events behind it follow."""
        with self.mutex:
            if self._errors < self.MAX_ERRORS:
                self._errors += 1
                self._behind.append(error)
            self.not_empty.notify()
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def end(self, ending: Callable[[], Exception]) -> None:
        """Put the end: from here on every consumer gets ``ending()`` raised. The first end stays."""
        with self.mutex:
            if self._ending is None:
                self._ending = ending
            self.not_empty.notify_all()
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def when_ended(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called, once: at the end, or at an error before it. At once if that is there already.

        So one thread can wait for the end of any of many instances. Events don't concern it, and cost nothing
        more. It is called without the lock, by the reader thread as a rule, and must not wait.
        """
        with self.mutex:
            ended = self._ending is not None or self._errors > 0
            self._wake = None if ended else wake
        if ended:
            wake()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next event.

        Args:
            block: wait for one if there's none.
            timeout: for how many seconds at the most; None is without limit.

        Raises:
            queue.Empty: none came in time.
            Exception: an error whose turn it is, or the end.
        """
        try:
            return self.queue.popleft()
        except IndexError:
            return self._get_slowly(block, timeout)

    def _get_slowly(self, block: bool, timeout: float | None) -> Item:
        deadline = None if timeout is None else monotonic() + timeout
        with self.mutex:  # which is the lock of not_empty; but Ctrl-C can't come between its "with" and its block
            while True:
                try:
                    # Not "if self.queue": a consumer without the lock may be quicker between test and take.
                    item: Item = self.queue.popleft()
                except IndexError:
                    pass
                else:
                    return item
                if self._behind:
                    self._advance()
                    continue
                if self._ending is not None:
                    raise self._ending()
                remaining = None if deadline is None else deadline - monotonic()
                if not block or (remaining is not None and remaining <= 0):
                    raise queue.Empty
                self._waiting += 1
                try:
                    self.not_empty.wait(remaining)
                except BaseException:
                    # Ctrl-C, perhaps just after this thread was chosen to take an event: choose another.
                    self.not_empty.notify()
                    raise
                finally:
                    self._waiting -= 1

    def _advance(self) -> None:
        """Bring the next of what is behind into the empty deque, with the lock held; raise it if it's an error."""
        part = self._behind[0]
        if isinstance(part, SpillFile):
            items = part.read()
            if part.size == 0:
                self._behind.popleft()
                part.close()
            self.queue.extend(items)
            self._add_size(items)
        else:
            self._behind.popleft()
            if isinstance(part, Exception):
                self._errors -= 1
                # Another consumer may have been woken for what comes behind the error: that's still there.
                self.not_empty.notify()
                raise part
            self.queue.extend(part)
        self.not_empty.notify(len(self.queue))

    # --- memory -----------------------------------------------------------------------------------------

    def _add_size(self, items: Sequence[Item]) -> int:
        size = _ITEM_SIZE * len(items)
        for _, data in items:
            size += len(data)
        self._sizes.append((len(items), size))
        self._sized_items += len(items)
        self._sized_bytes += size
        return size

    def memory_size(self) -> int:
        """Return about how many bytes the events in memory take; to be precise, those of whole batches.

        Consumers take events without telling, so that they are quick. What they took shows here: in the number
        of events that are left.
        """
        with self.mutex:
            left = len(self.queue) + sum(len(part) for part in self._behind if isinstance(part, deque))
            while self._sizes and self._sized_items - self._sizes[0][0] >= left:
                items, size = self._sizes.popleft()
                self._sized_items -= items
                self._sized_bytes -= size
            return self._sized_bytes

    def spilled_size(self) -> int:
        """Return how many bytes of events are on disk."""
        with self.mutex:
            return sum(part.size for part in self._behind if isinstance(part, SpillFile))

    def spill(self) -> None:
        """Move everything that is in memory to the disk. What comes later goes there too, until it is consumed.

        Raises:
            OSError: the disk is full. Nothing is lost: it stays in memory.
        """
        with self.mutex:
            taken = self._take_all()
            try:
                front = _on_disk(taken)
                parts = [_on_disk(list(part)) if isinstance(part, deque) else part for part in self._behind]
            except OSError:
                self.queue.extend(taken)
                raise
            self._behind = deque(part for part in (front, *parts) if part is not None)
            self._sizes.clear()
            self._sized_items = self._sized_bytes = 0

    def _take_all(self) -> list[Item]:
        """Empty the deque, while consumers without the lock may be taking from it as well.

        From the right: they take from the left, so that what they get and what this returns are both in order.
        """
        taken = []
        try:
            while True:
                taken.append(self.queue.pop())
        except IndexError:
            taken.reverse()
            return taken


def _on_disk(items: Sequence[Item]) -> SpillFile | None:
    """Write events to a file of their own, in pieces that are easily brought back; None for no events."""
    if not items:
        return None
    file = SpillFile()
    try:
        piece: list[Item] = []
        size = 0
        for item in items:
            piece.append(item)
            size += _ITEM_SIZE + len(item[1])
            if size >= _PIECE_SIZE:
                file.write(piece)
                piece, size = [], 0
        if piece:
            file.write(piece)
    except OSError:
        file.close()
        raise
    return file
