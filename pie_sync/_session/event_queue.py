"""The queue between the reader thread and whoever consumes an instance."""

from __future__ import annotations

import queue
import threading
from collections import deque
from itertools import chain, repeat
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, NoReturn, Union

from .._support.atomic import HAS_INTERPRETER_LOCK
from .._support.time_limits import acquire
from ..errors import InstanceEnded, PieError
from ..events import Data, Event
from .spill_file import ITEM_SIZE, SpillFile, SpillSpace
from .waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MESSAGE", "Entry", "EventQueue", "Item", "memory_size"]

#: Looked up once: finding it among the members takes as long as making an event.
MESSAGE = Event.Message

#: One event: its kind and its text or blob. A plain tuple, since one is made for every event.
Item = tuple[Event, Data]

#: What may be in the deque of a queue: an event; but a message, the most frequent kind, as its text alone.
Entry = Union[str, Item]

#: The waiters of a queue for which nobody has waited yet. Always empty.
_NOBODY: set[threading.Lock] = set()


class _Loss(NamedTuple):
    """Events that are lost, in their place among the others."""

    number: int
    reason: str

    def error(self) -> PieError:
        return PieError(f"{self.number} events are lost: {self.reason}")


#: What may be behind the events in memory.
_Part = Union[Exception, _Loss, "deque[Entry]", SpillFile]


def memory_size(data: str | bytes) -> int:
    """Return how many bytes an event takes in memory: characters take one, two or four, by the widest of them."""
    return ITEM_SIZE + data.__sizeof__()  # sys.getsizeof() takes five times as long


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
    - The mutex guards what is in the overflow. A consumer that reads the disk does not hold it meanwhile, but a
      lock of that file, which only consumers take: the reader thread never waits for the disk to be read.
    - It is not bounded: the reader thread never waits for a consumer. :class:`MemoryLimit` bounds the memory.
    - It is small, and made quickly: a client may have ten thousand of them.

    One thread only puts events, errors and the end: the reader thread. It puts first and notifies then, and a
    consumer gets in line first and looks then (:class:`Waiters`). So no wake-up is lost without a lock.

    Attributes:
        terminal: the terminal event once it has *arrived*, which may be long before it is consumed.
        ended: when it arrived, by ``time.monotonic()``; 0.0 before.
        fast_path: whether the next event belongs at the end of the deque. Only the thread that puts sets it:
            a consumer that has emptied the overflow does not set it again.
        forgotten: whether nobody can receive from the queue any more.
        is_whole: whether the end has arrived, and is that of the instance, not of its connection.
        waiting: true while consumers wait for the next event, or have been woken just now. To be looked at only.
    """

    # The base class has a dict, which stays empty: with ten thousand queues, whatever lies in another place of the
    # memory has left the processor's cache when it's its turn again.
    __slots__ = (
        "_callback",
        "_ending",
        "_errors",
        "_overflow",
        "_waiters",
        "ended",
        "fast_path",
        "forgotten",
        "is_whole",
        "mutex",
        "queue",
        "terminal",
        "waiting",
    )

    #: Of queue.Queue: there is always room, and tasks are not counted.
    maxsize = 0
    unfinished_tasks = 0

    #: Errors that wait to be consumed; what a server does wrong beyond that is not worth the memory.
    MAX_ERRORS = 100

    def __init__(self) -> None:
        # Not super().__init__(), which makes three conditions. What isn't there costs no time to make, no memory,
        # and nothing in each garbage collection.
        self.queue = deque()
        self.mutex = threading.Lock()
        self.terminal: tuple[Event, str] | None = None
        self.ended = 0.0
        self.fast_path = HAS_INTERPRETER_LOCK
        self.forgotten = False
        self.waiting: set[threading.Lock] = _NOBODY
        self._waiters: Waiters | None = None
        # Replaced, never changed: the queues that have nothing here, nearly all, have the same nothing.
        self._overflow: Sequence[_Part] = ()
        self._errors = 0
        self._ending: Callable[[], Exception] | None = None
        self.is_whole = False
        self._callback: Callable[[], None] | None = None  # see call_at_end()

    @property
    def exhausted(self) -> bool:
        """Whether the end was put and everything before it is consumed."""
        # With the lock, which spill() holds while it has everything out of the deque, and end() until all is put.
        with self.mutex:
            return self._ending is not None and not self.queue and not self._overflow

    def put_batch(self, items: Sequence[Item]) -> None:
        """Add events, wherever their place is, and wake consumers. Never waits for a consumer.

        What belongs on the disk stays in memory if the disk takes nothing more.
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
            try:
                last.write(items)
            except (OSError, MemoryError):
                pass
            else:
                return
        if not isinstance(last, deque):
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
        """Return how many events are in memory. Never waits."""
        return len(self.queue)

    def fill(self) -> tuple[int, int]:
        """Return how many events are in memory, and how many bytes on disk: it changes when something comes."""
        return len(self.queue), self.spilled_size() if self._overflow else 0

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
            parts, loss = list(self._overflow), _Loss(count, reason)
            is_new = not parts or not isinstance(parts[-1], _Loss)
            self._add_loss(parts, len(parts), loss)
            self._overflow = parts
            self.fast_path = False
        self._error_was_put()
        return is_new

    def _add_loss(self, parts: list[_Part], index: int, loss: _Loss) -> None:
        """Put a loss into the overflow, with the lock held; into one that is there already next to it."""
        for near in (index - 1, index):
            other = parts[near] if 0 <= near < len(parts) else None
            if isinstance(other, _Loss):
                parts[near] = _Loss(other.number + loss.number, loss.reason)
                return
        parts.insert(index, loss)
        self._errors += 1

    def _error_was_put(self) -> None:
        with self.mutex:
            callback, self._callback = self._callback, None
        self._notify(1)
        if callback is not None:
            callback()

    def end(self, ending: Callable[[], Exception], terminal: tuple[Event, str] | None = None) -> None:
        """Put the end: from here on every consumer gets ``ending()`` raised. The first end stays.

        Args:
            ending: makes the exception.
            terminal: the terminal event. It is put in the same step, so that a consumer that has just received it
                finds the queue exhausted.
        """
        with self.mutex:
            if terminal is not None:
                self.ended = monotonic()
                self.terminal = terminal  # before the queue: exhausted is looked at behind it
                if self._overflow:
                    self._put_into_overflow([terminal])
                else:
                    self.queue.append(terminal)
            if self._ending is None:
                self._ending = ending
                self.is_whole = terminal is not None
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

    def drain(self) -> list[Item]:
        """Take all events at once. Only when the instance has ended or has met an error.

        Raises:
            Exception: an error whose turn it is, or the end, if that is not the instance's.
        """
        with self.mutex:
            if self.is_whole and not self._overflow:
                items = [entry if isinstance(entry, tuple) else (MESSAGE, entry) for entry in self.queue]
                self.queue.clear()
                return items
        items = []
        try:
            while True:
                items.append(self.get(block=False))
        except InstanceEnded:
            return items

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
        if not block:
            deadline = monotonic()
        while True:
            with self.mutex:
                entry = self._take()
                if entry is None and self._ending is not None:
                    raise self._ending()
            if isinstance(entry, SpillFile):
                self._load(entry, deadline)
                continue
            if entry is not None:
                if self.queue:
                    self._notify(1)
                return entry
            left = -1 if deadline is None else deadline - monotonic()
            if deadline is not None and left <= 0:
                raise queue.Empty
            self._wait(left)

    def _take(self) -> Entry | SpillFile | None:
        """Take the next event, with the lock held. None if there is none; if it is on disk, the file."""
        while True:
            try:
                # Not "if self.queue": a consumer without the lock may be quicker between test and take.
                entry: Entry = self.queue.popleft()
            except IndexError:
                if not self._overflow:
                    return None
                part = self._overflow[0]
                if isinstance(part, SpillFile):
                    return part
                self._advance(part)
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

    def _advance(self, part: Exception | _Loss | deque[Entry]) -> None:
        """Bring the first of the overflow into the empty deque, with the lock held; raise it if it's an error."""
        if isinstance(part, deque):
            self._move(part)
            self._overflow = self._overflow[1:]
            self._notify(len(self.queue))
            return
        self._overflow = self._overflow[1:]
        self._errors -= 1
        # Another consumer may have been woken for what comes behind the error: that's still there.
        self._notify(1)
        raise part.error() if isinstance(part, _Loss) else part

    def _move(self, batch: deque[Any]) -> None:
        # In one step, without one of Python's in between in which Ctrl-C could come: each event is in one of both.
        # What was behind goes only when it is in the deque: until then put_batch() puts nothing in before it.
        self.queue.extend(map(deque.popleft, repeat(batch, len(batch))))

    def _load(self, file: SpillFile, deadline: float | None) -> None:
        """Bring the next of what is on disk into the empty deque. Blocks while the disk is read.

        Raises:
            queue.Empty: another consumer was reading from it all the time.
            OSError: the disk can't be read.
        """
        acquired: list[bool] = []
        try:
            if not acquire(file.reading, deadline, acquired):
                raise queue.Empty
            with self.mutex:
                if self.queue or not self._overflow or self._overflow[0] is not file:
                    return  # another consumer was quicker
            batch = file.read()
            with self.mutex:
                self._move(batch)
                if file.size == 0:
                    self._overflow = self._overflow[1:]
        finally:
            if True in acquired:
                file.reading.release()
        self._notify(len(self.queue))

    # --- memory -----------------------------------------------------------------------------------------

    def memory_size(self) -> int:
        """Return about how many bytes the events in memory take. Costs some 0.1 us for each of them."""
        # Copies: each is one step, where a loop over the deque would fail when a consumer takes from it meanwhile.
        parts = [self.queue.copy(), *(part.copy() for part in self._overflow if isinstance(part, deque))]
        sizes = ((entry[1] if type(entry) is tuple else entry).__sizeof__() for entry in chain(*parts))
        return int(ITEM_SIZE * sum(map(len, parts)) + sum(sizes))

    def spilled_size(self) -> int:
        """Return how many bytes of events are on disk. Never waits."""
        return sum(part.size for part in self._overflow if isinstance(part, SpillFile))

    def spill(self, space: SpillSpace | None = None) -> None:
        """Move everything that is in memory to the disk. What comes later goes there too, until it is consumed.

        Args:
            space: where to; None makes one.

        Raises:
            OSError: the disk is full. Nothing is lost: it stays in memory.
            MemoryError: there is no memory to do it in. The same.
        """
        space = SpillSpace() if space is None else space
        with self.mutex:
            taken = self._take_all()
            try:
                front = _on_disk(taken, space)
                parts = [_on_disk(part, space) if isinstance(part, deque) else part for part in self._overflow]
            except BaseException:
                self.queue.extend(taken)
                self._notify(len(taken))
                raise
            self._overflow = [part for part in (front, *parts) if part is not None]
            self.fast_path = HAS_INTERPRETER_LOCK and not self._overflow
        if self.waiting:
            # Somebody may have looked for events while they were in neither place, and gone to sleep over it.
            self._notify(len(self.waiting))

    def cut(self, size: int, reason: str) -> int:
        """Lose the newest of the events in memory, until the others take no more than ``size`` bytes.

        An error in their place tells of it. The terminal event is never lost, nor what is on disk.

        Returns:
            How many are lost.
        """
        lost = 0
        with self.mutex:
            excess = self.memory_size() - size
            parts = list(self._overflow)
            for index in range(len(parts), -1, -1):
                part = parts[index - 1] if index else self.queue
                if excess <= 0:
                    break
                if isinstance(part, deque):
                    count, cut_off, end = _cut(part, excess)
                    excess -= cut_off
                    lost += count
                    place = index
                    if not part and index:
                        place -= 1
                        del parts[place]
                    if end is not None:
                        parts.insert(place, deque([end]))
                    if count:
                        self._add_loss(parts, place, _Loss(count, reason))
            self._overflow = parts
            self.fast_path = False  # put_batch() sets it again
        if lost:
            self._error_was_put()
        return lost

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


def _cut(part: deque[Entry], excess: int) -> tuple[int, int, Entry | None]:
    """Take events off the right end of a deque: how many, their size, and the terminal one apart."""
    count = size = 0
    end = None
    try:
        while size < excess:
            entry = part.pop()
            if isinstance(entry, tuple) and entry[0].terminal:
                end = entry
            else:
                count += 1
                size += memory_size(entry[1] if isinstance(entry, tuple) else entry)
    except IndexError:
        pass  # consumers have taken the others
    return count, size, end


def _on_disk(entries: Sequence[Entry], space: SpillSpace) -> SpillFile | None:
    """Write events to the disk; None for no events."""
    if not entries:
        return None
    file = SpillFile(space)
    file.write((MESSAGE, entry) if isinstance(entry, str) else entry for entry in entries)
    return file
