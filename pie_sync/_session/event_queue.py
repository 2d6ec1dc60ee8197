"""The queue between the reader thread and whoever consumes an instance."""

from __future__ import annotations

import queue
import threading
from collections import deque
from itertools import chain, repeat
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Union

from .._support.atomic import HAS_INTERPRETER_LOCK
from ..errors import PieError
from ..events import Event
from .spill_file import SpillFile, SpillSpace
from .waiters import Waiters

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

#: The waiters of a queue for which nobody has waited yet. Always empty.
_NOBODY: set[threading.Lock] = set()


class EventQueue(queue.Queue):  # type: ignore[type-arg]  # not subscriptable at run time before Python 3.9.2
    """A ``queue.Queue`` of events that takes them in batches, and that ends.

    Its methods are those of a ``queue.Queue``, but for ``join``, ``task_done`` and ``shutdown``, which do not
    apply. Inside, it differs for the sake of speed and of order:

    - The reader thread appends events to the deque itself, without the lock, as long as :attr:`fast_path` says so,
      and then wakes the waiting consumers, once for all events of one read (:meth:`notify`).
    - :meth:`get` takes an event that is there without the lock. ``deque.popleft`` is atomic, so every event goes
    to
      exactly one consumer; only a consumer that finds nothing takes the lock and waits. An event takes 0.1 us
      instead of 1.2 us.
    - A message lies in the deque as its text alone; :meth:`get` makes an event of it. The garbage collector looks
      again and again at every tuple, but never at a str: with 200 000 waiting events it took a fifth of the time.
    - Behind the events in memory there may be an overflow: errors, which have their place in the order of events,
      and events on disk (:meth:`spill`). Only a consumer that finds the deque empty looks there, so the overflow
      costs nothing while events come. The end is behind everything else (:meth:`end`).
    - It is not bounded: the reader thread never waits for a consumer. :class:`MemoryLimit` bounds the memory.
    - It is small, and made quickly: a client may have ten thousand of them.

    One thread only puts events, errors and the end: the reader thread. It puts first and notifies then, and a
    consumer gets in line first and looks then (:class:`Waiters`). So no wake-up is lost without a lock.

    Attributes:
        terminal: the terminal event once it has *arrived*, which may be long before it is consumed.
        fast_path: whether the next event belongs at the end of the deque. Only the thread that puts sets it:
            a consumer that has emptied the overflow does not set it again.
        forgotten: whether nobody can receive from the queue any more.
        waiting: true while consumers wait for the next event, or have been woken just now. To be looked at only.
    """

    # The base class has a dict, which stays empty: with ten thousand queues, whatever lies in another place of the
    # memory has left the processor's cache when it's its turn again.
    __slots__ = (
        "_callback",
        "_ending",
        "_errors",
        "_loss",
        "_overflow",
        "_waiters",
        "fast_path",
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
        self.fast_path = HAS_INTERPRETER_LOCK
        self.forgotten = False
        self.waiting: set[threading.Lock] = _NOBODY
        self._waiters: Waiters | None = None
        # Replaced, never changed: the queues that have nothing here, nearly all, have the same nothing.
        self._overflow: Sequence[Exception | deque[Entry] | SpillFile] = ()
        self._errors = 0
        # The last error about lost events, and how many it tells.
        self._loss: tuple[PieError | None, int] = None, 0
        self._ending: Callable[[], Exception] | None = None
        self._callback: Callable[[], None] | None = None  # see call_at_end()

    def __del__(self) -> None:
        for part in self._overflow:
            if isinstance(part, SpillFile):
                part.close()

    @property
    def exhausted(self) -> bool:
        """Whether the end was put and everything before it is consumed."""
        if self._ending is None:
            return False
        with self.mutex:  # spill() takes everything out of the deque for a moment
            return not self.queue and not self._overflow

    def put_batch(self, items: Sequence[Item]) -> None:
        """Add events, wherever their place is, and wake consumers. Never waits for a consumer.

        Raises:
            OSError: they belong on the disk, and it is full. They are lost.
        """
        with self.mutex:
            if self._overflow:
                self._put_into_overflow(items)
            else:
                self.queue.extend(items)
                self.fast_path = HAS_INTERPRETER_LOCK
        self._notify(len(items))

    def _put_into_overflow(self, items: Sequence[Item]) -> None:
        """Add events behind what is not in the deque, with the lock held."""
        last = self._overflow[-1]
        if isinstance(last, SpillFile):
            last.write(items)
            return
        if isinstance(last, Exception):
            last = deque()
            self._overflow = [*self._overflow, last]
        last.extend(items)

    def notify(self) -> None:
        """Wake as many consumers as there are events: after the deque was appended to on the fast path."""
        self._notify(len(self.queue))

    def _notify(self, count: int) -> None:
        """Wake ``count`` consumers. Each takes an event and wakes the next if more are there."""
        waiters = self._waiters
        if waiters is not None:
            waiters.notify(count)

    def put(self, item: Item, block: bool = True, timeout: float | None = None) -> None:
        """Add one event; see :meth:`put_batch`. There is always room."""
        self.put_batch([item])

    def qsize(self) -> int:
        """Return how many events are in memory. Never waits: a consumer that reads the disk holds the lock."""
        return len(self.queue)

    def empty(self) -> bool:
        """Return whether :meth:`get` would find nothing now, neither in memory nor in the overflow."""
        return not self.queue and not self._overflow

    def join(self) -> NoReturn:
        """Refuse: there are no tasks to wait for."""
        raise NotImplementedError("a queue of events counts no tasks: wait for the instance's end instead")

    def task_done(self) -> NoReturn:
        """Refuse: there are no tasks to be done with."""
        raise NotImplementedError("a queue of events counts no tasks: receiving an event is all there is to do")

    def shutdown(self, immediate: bool = False) -> NoReturn:
        """Refuse: only the reader thread ends a queue."""
        raise NotImplementedError(
            "a queue of events ends with its instance or its connection: see terminate(), close()"
        )

    def put_error(self, error: Exception) -> None:
        """Add an error: the consumer that reaches it gets it raised, once; the events behind it follow."""
        with self.mutex:
            if self._errors < self.MAX_ERRORS:
                self._errors += 1
                self._overflow = [*self._overflow, error]
                self.fast_path = False
        self._error_was_put()

    def put_loss(self, count: int, reason: str) -> bool:
        """Add the error that ``count`` events are lost; to one like it, if nothing has come since. Never dropped.

        Returns:
            Whether it is a new one.
        """
        with self.mutex:
            is_new = not self._overflow or self._overflow[-1] is not self._loss[0]
            if is_new:
                self._errors += 1
            else:
                count += self._loss[1]
                self._overflow = self._overflow[:-1]
            error = PieError(f"{count} events are lost: {reason}")
            self._loss = error, count
            self._overflow = [*self._overflow, error]
            self.fast_path = False
        self._error_was_put()
        return is_new

    def _error_was_put(self) -> None:
        with self.mutex:
            callback, self._callback = self._callback, None
        self._notify(1)
        if callback is not None:
            callback()

    def end(self, ending: Callable[[], Exception]) -> None:
        """Put the end: from here on every consumer gets ``ending()`` raised. The first end stays."""
        with self.mutex:
            if self._ending is None:
                self._ending = ending
            callback, self._callback = self._callback, None
        if self.waiting:
            self._notify(len(self.waiting))
        if callback is not None:
            callback()

    def call_at_end(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once: at the end, or at an error before it; at once if that is there already.

        So one thread can wait for the end of any of many instances, and events cost nothing more. The callback is
        called without the lock, by the reader thread as a rule, and must not wait.
        """
        with self.mutex:
            ended = self._ending is not None or self._errors > 0
            self._callback = None if ended else callback
        if ended:
            callback()

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
                    self._notify(1)
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
                if not self._overflow:
                    return None
                self._advance()
            else:
                return entry

    def _wait(self, seconds: float) -> None:
        """Wait until somebody notifies, or for so many seconds; -1 is without limit."""
        with self.mutex:
            if self._waiters is None:
                waiters = Waiters(self.mutex)
                self._waiters, self.waiting = waiters, waiters.waiting
        assert self._waiters is not None
        self._waiters.wait(seconds, lambda: self.queue or self._overflow or self._ending)

    def _advance(self) -> None:
        """Bring the next of what is behind into the empty deque, with the lock held; raise it if it's an error."""
        part = self._overflow[0]
        if isinstance(part, Exception):
            self._overflow = self._overflow[1:]
            self._errors -= 1
            # Another consumer may have been woken for what comes behind the error: that's still there.
            self._notify(1)
            raise part
        batch: deque[Any] = part.read() if isinstance(part, SpillFile) else part
        # In one step, without one of Python's in between in which Ctrl-C could come: each event is in one of both.
        self.queue.extend(map(deque.popleft, repeat(batch, len(batch))))
        # What was behind goes only when it is in the deque: until then put_batch() puts nothing in before it.
        if not isinstance(part, SpillFile):
            self._overflow = self._overflow[1:]
        elif part.size == 0:
            self._overflow = self._overflow[1:]
            part.close()
        self._notify(len(self.queue))

    # --- memory -----------------------------------------------------------------------------------------

    def memory_size(self) -> int:
        """Return about how many bytes the events in memory take. Costs some 0.04 us for each of them."""
        parts = [self.queue, *(part for part in self._overflow if isinstance(part, deque))]
        # A copy: that's one step, where a loop over the deque would fail when a consumer takes from it meanwhile.
        entries = chain.from_iterable(part.copy() for part in parts)
        return sum(ITEM_SIZE + len(entry[1] if isinstance(entry, tuple) else entry) for entry in entries)

    def spilled_size(self) -> int:
        """Return how many bytes of events are on disk."""
        with self.mutex:
            return sum(part.size for part in self._overflow if isinstance(part, SpillFile))

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
                parts = [
                    _on_disk(list(part), space) if isinstance(part, deque) else part for part in self._overflow
                ]
            except OSError:
                self.queue.extend(taken)
                self._notify(len(taken))
                raise
            self._overflow = [part for part in (front, *parts) if part is not None]
            self.fast_path = HAS_INTERPRETER_LOCK and not self._overflow
        if self.waiting:
            # Somebody may have looked for events while they were in neither place, and gone to sleep over it.
            self._notify(len(self.waiting))

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
