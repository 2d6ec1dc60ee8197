"""The queue between the reader thread and whoever consumes an instance."""

from __future__ import annotations

import queue
import threading
from collections import deque
from itertools import chain, repeat
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Union

from ..errors import PieError
from ..events import Event
from .spill_file import SpillFile, SpillSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ITEM_SIZE", "MESSAGE", "Entry", "EventQueue", "Item"]

#: Looked up once: finding it among the members takes as long as making an event.
MESSAGE = Event.Message

#: One event: its kind and its text or bytes. A plain tuple, since one is made for every event.
Item = tuple[Event, Union[str, bytes]]

#: What may be in the deque of a queue: an event; but a message, the most frequent kind, as its text alone.
Entry = Union[str, Item]

#: What an event takes in memory besides its text, at the most: the tuple, the head of the str, its place in the
#: deque.
ITEM_SIZE = 120

#: About how many bytes of events come back from the disk at a time.
_PIECE_SIZE = 256 * 1024

#: Who waits for a queue for which nobody has waited yet. Always empty.
_NOBODY: set[threading.Lock] = set()


class EventQueue(queue.Queue):  # type: ignore[type-arg]  # not subscriptable at run time before Python 3.9.2
    """A ``queue.Queue`` of events that takes them in batches, and that ends.

    Differences to its base class, each for the sake of speed or of order:

    - The reader thread appends events to the deque itself, without the lock, as long as :attr:`direct` says that
      their place is there, and then wakes whoever waits, once for all of them (:meth:`wake`).
    - :meth:`get` takes an event that is there without the lock. ``deque.popleft`` is atomic, so every event
      still goes to exactly one consumer; only a consumer that finds nothing takes the lock and waits. This is
      0.1 us for an event instead of 1.2 us.
    - A message is in the deque as its text alone; :meth:`get` makes an event of it. The garbage collector looks
      again and again at every tuple that there is, but never at a str: with 200 000 events waiting it took a fifth
      of all the time.
    - Behind the events in memory there may be other things (``_behind``): errors, which have their place in the
      order of events, and events on disk (:meth:`spill`). They are met only by a consumer that finds the deque
      empty, so they cost nothing while events come. So is the end, behind everything else (:meth:`end`).
    - Each consumer that waits has a lock of its own, which is released to wake it. ``threading.Condition`` does
      the same with three times the Python, 6 us for an event that is waited for.
    - It is not bounded, and ``join``/``task_done`` are not kept up.
    - It is small, and made quickly: a client may have ten thousand of them.

    Events, errors and the end are put by one thread only, the reader thread. That, and that a waiting consumer
    looks again after it has said that it waits, is why no wake-up is lost without the lock.

    Attributes:
        terminal: the terminal event once it has *arrived*, which may be long before it is consumed.
        direct: whether the place of the next event is at the end of the deque. Only the thread that puts touches
            it: a consumer that has got to what was behind the deque does not set it again.
        forgotten: whether nobody can receive from it any more.
        waiting: the bells of the consumers that wait for what comes, or have been woken just now. Empty if there
            are none; not to be changed from outside.
    """

    # The base class has a dict, which stays empty: with ten thousand queues, whatever lies in another place of the
    # memory has left the processor's cache when it's its turn again.
    __slots__ = (
        "_behind",
        "_bells",
        "_ending",
        "_errors",
        "_loss",
        "_wake",
        "direct",
        "forgotten",
        "maxsize",
        "mutex",
        "queue",
        "terminal",
        "unfinished_tasks",
        "waiting",
    )

    #: Errors that wait to be consumed; what a server does wrong beyond that is not worth the memory.
    MAX_ERRORS = 100

    def __init__(self) -> None:
        # Not super().__init__(), which makes three conditions. What isn't there costs no time to make, no memory,
        # and nothing in each garbage collection.
        self.maxsize = 0
        self.queue = deque()
        self.mutex = threading.Lock()
        self.unfinished_tasks = 0
        self.terminal: tuple[Event, str] | None = None
        self.direct = True
        self.forgotten = False
        self.waiting: set[threading.Lock] = _NOBODY
        self._bells: deque[threading.Lock] | None = None
        # Replaced, never changed: the queues that have nothing here, nearly all, have the same nothing.
        self._behind: Sequence[Exception | deque[Entry] | SpillFile] = ()
        self._errors = 0
        # The last error about lost events, and how many it tells.
        self._loss: tuple[PieError | None, int] = None, 0
        self._ending: Callable[[], Exception] | None = None
        self._wake: Callable[[], None] | None = None  # see when_ended()

    def __del__(self) -> None:
        for part in self._behind:
            if isinstance(part, SpillFile):
                part.close()

    @property
    def exhausted(self) -> bool:
        """Whether the end was put and everything before it is consumed."""
        if self._ending is None:
            return False
        with self.mutex:  # spill() takes everything out of the deque for a moment
            return not self.queue and not self._behind

    def put_batch(self, items: Sequence[Item]) -> None:
        """Add events, wherever their place is, and wake consumers. Never waits for a consumer.

        Raises:
            OSError: they belong on the disk, and it is full. They are lost.
        """
        with self.mutex:
            if self._behind:
                self._put_behind(items)
            else:
                self.queue.extend(items)
                self.direct = True
        self._ring(len(items))

    def _put_behind(self, items: Sequence[Item]) -> None:
        """Add events behind what is not in the deque, with the lock held."""
        last = self._behind[-1]
        if isinstance(last, SpillFile):
            last.write(items)
            return
        if isinstance(last, Exception):
            last = deque()
            self._behind = [*self._behind, last]
        last.extend(items)

    def wake(self) -> None:
        """Wake as many consumers as there are events for: after the deque was appended to directly."""
        self._ring(len(self.queue))

    def _ring(self, count: int) -> None:
        """Wake ``count`` of those who wait; and one more, since Ctrl-C may have left the bell of one who is gone.

        Whoever is woken takes what there is and rings for the rest, so that nothing lies there while others sleep.
        """
        bells = self._bells
        if bells is None:
            return
        for _ in range(min(count + 1, len(bells))):
            try:
                bells.popleft().release()
            except IndexError:  # another thread has rung, too
                return

    def put(self, item: Item, block: bool = True, timeout: float | None = None) -> None:
        """Add one event; see :meth:`put_batch`. There is always room."""
        self.put_batch([item])

    def put_error(self, error: Exception) -> None:
        """Add an error: the consumer that reaches it gets it raised, once; the events behind it follow."""
        with self.mutex:
            if self._errors < self.MAX_ERRORS:
                self._errors += 1
                self._behind = [*self._behind, error]
                self.direct = False
        self._error_was_put()

    def put_loss(self, count: int, reason: str) -> bool:
        """Add the error that ``count`` events are lost; to one like it, if nothing has come since. Never dropped.

        Returns:
            Whether it is a new one.
        """
        with self.mutex:
            is_new = not self._behind or self._behind[-1] is not self._loss[0]
            if is_new:
                self._errors += 1
            else:
                count += self._loss[1]
                self._behind = self._behind[:-1]
            error = PieError(f"{count} events are lost: {reason}")
            self._loss = error, count
            self._behind = [*self._behind, error]
            self.direct = False
        self._error_was_put()
        return is_new

    def _error_was_put(self) -> None:
        with self.mutex:
            wake, self._wake = self._wake, None
        self._ring(1)
        if wake is not None:
            wake()

    def end(self, ending: Callable[[], Exception]) -> None:
        """Put the end: from here on every consumer gets ``ending()`` raised. The first end stays."""
        with self.mutex:
            if self._ending is None:
                self._ending = ending
            wake, self._wake = self._wake, None
        if self.waiting:
            self._ring(len(self.waiting))
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
            entry = self.queue.popleft()
        except IndexError:
            entry = self._get_slowly(block, timeout)
        return entry if isinstance(entry, tuple) else (MESSAGE, entry)

    def _get_slowly(self, block: bool, timeout: float | None) -> Entry:
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            with self.mutex:
                entry = self._take()
                if entry is None and self._ending is not None:
                    raise self._ending()
            if entry is not None:
                if self.queue:
                    self._ring(1)
                return entry
            left = -1 if deadline is None else deadline - monotonic()
            if not block or (deadline is not None and left <= 0):
                raise queue.Empty
            self._wait(left)

    def _take(self) -> Entry | None:
        """Take the next event, wherever it is, with the lock held. None if there is none."""
        while True:
            try:
                # Not "if self.queue": a consumer without the lock may be quicker between test and take.
                entry: Entry = self.queue.popleft()
            except IndexError:
                if not self._behind:
                    return None
                self._advance()
            else:
                return entry

    def _wait(self, seconds: float) -> None:
        """Wait until somebody rings, or for so many seconds; -1 is without limit."""
        bell = threading.Lock()
        bell.acquire()
        with self.mutex:
            if self._bells is None:
                self._bells, self.waiting = deque(), set()
        try:
            self.waiting.add(bell)
            self._bells.append(bell)
            # Again: for what was put before the bell was there, nobody has rung.
            if not (self.queue or self._behind or self._ending):
                bell.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
        except BaseException:
            self._ring(1)  # Ctrl-C, perhaps just after this thread was chosen to take an event: choose another
            raise
        finally:
            self.waiting.discard(bell)
            try:
                self._bells.remove(bell)
            except ValueError:
                pass  # it was rung

    def _advance(self) -> None:
        """Bring the next of what is behind into the empty deque, with the lock held; raise it if it's an error."""
        part = self._behind[0]
        if isinstance(part, Exception):
            self._behind = self._behind[1:]
            self._errors -= 1
            # Another consumer may have been woken for what comes behind the error: that's still there.
            self._ring(1)
            raise part
        batch: deque[Any] = part.read() if isinstance(part, SpillFile) else part
        # In one step, without one of Python's in between in which Ctrl-C could come: each event is in one of both.
        self.queue.extend(map(deque.popleft, repeat(batch, len(batch))))
        # What was behind goes only when it is in the deque: until then put_batch() puts nothing in before it.
        if not isinstance(part, SpillFile):
            self._behind = self._behind[1:]
        elif part.size == 0:
            self._behind = self._behind[1:]
            part.close()
        self._ring(len(self.queue))

    # --- memory -----------------------------------------------------------------------------------------

    def memory_size(self) -> int:
        """Return about how many bytes the events in memory take. Costs some 0.04 us for each of them."""
        parts = [self.queue, *(part for part in self._behind if isinstance(part, deque))]
        # A copy: that's one step, where a loop over the deque would fail when a consumer takes from it meanwhile.
        entries = chain.from_iterable(part.copy() for part in parts)
        return sum(ITEM_SIZE + len(entry[1] if isinstance(entry, tuple) else entry) for entry in entries)

    def spilled_size(self) -> int:
        """Return how many bytes of events are on disk."""
        with self.mutex:
            return sum(part.size for part in self._behind if isinstance(part, SpillFile))

    def spill(self, space: SpillSpace | None = None) -> None:
        """Move everything that is in memory to the disk. What comes later goes there too, until it is consumed.

        Args:
            space: where to; None makes one.

        Raises:
            OSError: the disk is full. Nothing is lost: it stays in memory.
        """
        with self.mutex:
            taken = self._take_all()
            try:
                front = _on_disk(taken, space)
                parts = [_on_disk(list(part), space) if isinstance(part, deque) else part for part in self._behind]
            except OSError:
                self.queue.extend(taken)
                self._ring(len(taken))
                raise
            self._behind = [part for part in (front, *parts) if part is not None]
            self.direct = not self._behind
        if self.waiting:
            # Somebody may have looked for events while they were in neither place, and gone to sleep over it.
            self._ring(len(self.waiting))

    def _take_all(self) -> list[Entry]:
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


def _on_disk(entries: Sequence[Entry], space: SpillSpace | None) -> SpillFile | None:
    """Write events to the disk, in pieces that are easily brought back; None for no events."""
    if not entries:
        return None
    file = SpillFile(space if space is not None and space.enter() else None)
    try:
        piece: list[Item] = []
        size = 0
        for entry in entries:
            item = (MESSAGE, entry) if isinstance(entry, str) else entry
            piece.append(item)
            size += ITEM_SIZE + len(item[1])
            if size >= _PIECE_SIZE:
                file.write(piece)
                piece, size = [], 0
        if piece:
            file.write(piece)
    except OSError:
        file.close()
        raise
    return file
