"""Events on disk: where they go when nobody consumes them and they would fill the memory."""

from __future__ import annotations

import struct
import tempfile
import threading
from collections import deque
from typing import IO, TYPE_CHECKING, Any

import msgpack

from ..events import Blob, Event

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SpillFile", "SpillSpace"]

_EVENTS = {event.value: event for event in Event}


#: The head of a batch on disk: where the next one of the same queue is (0: there is none yet), and its size.
_HEAD = struct.Struct("!QQ")
_NEXT = struct.Struct("!Q")


class SpillSpace:
    """A temporary file without a name, for the events of many queues: a process may have only so many open files.

    It grows at its end, and is given back when the last of its users has gone. Thread-safe.

    Attributes:
        size: how many bytes it has.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None  # until there is a user
        # The file has one position for all. Reentrant, since a user may be collected as garbage anywhere.
        self._lock = threading.RLock()
        self._users = 0
        self.size = 0

    @property
    def is_closed(self) -> bool:
        """Whether there is nothing any more, because the last user has gone."""
        return self._file is not None and self._file.closed

    def enter(self) -> bool:
        """Become a user. False if it is closed.

        Raises:
            OSError: there can't be a file.
        """
        with self._lock:
            if self._file is None:
                # Unbuffered: what a full disk does not take must not be tried again whenever something is read.
                self._file = tempfile.TemporaryFile(prefix="pie-sync-", buffering=0)  # noqa: SIM115 - see leave()
            if not self._file.closed:
                self._users += 1
            return not self._file.closed

    def leave(self) -> None:
        """Be no user any more."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._open_file.close()

    def append(self, data: bytes) -> int:
        """Write something at the end, and return where it is. Never 0.

        Raises:
            OSError: the disk is full. It is as if nothing had been tried.
        """
        with self._lock:
            position = self.size or _HEAD.size
            self._write(position, data)
            self.size = position + len(data)
            return position

    def overwrite(self, position: int, data: bytes) -> None:
        """Write something over what is there."""
        with self._lock:
            self._write(position, data)

    def read(self, position: int, size: int) -> bytes:
        """Read so many bytes.

        Raises:
            OSError: they can't be read.
        """
        parts = []
        with self._lock:
            file = self._open_file
            file.seek(position)
            while size:
                part = file.read(size)  # the system may give fewer at a time
                if not part:
                    raise OSError("the temporary file became shorter")
                parts.append(part)
                size -= len(part)
        return b"".join(parts)

    def _write(self, position: int, data: bytes) -> None:
        file = self._open_file
        file.seek(position)
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]

    @property
    def _open_file(self) -> IO[bytes]:
        assert self._file is not None
        return self._file


class SpillFile:
    """The events of one queue on disk: first in, first out, in batches.

    Each batch says where the next one is, so that what is on disk takes no memory however many batches it has.

    Not thread-safe: the queue's lock guards it.

    Args:
        space: where to write; the caller has entered it. None makes one.
    """

    def __init__(self, space: SpillSpace | None = None) -> None:
        if space is None:
            space = SpillSpace()
            space.enter()
        self._space = space
        # The batch that was read last, as far as it isn't taken; where it is; and how many bytes came before its
        # end. One attribute, so that Ctrl-C can't come between them.
        self._front: tuple[deque[tuple[Event, Any]], int, int] = deque(), 0, 0
        self._first = self._last = 0
        self._written = 0

    @property
    def size(self) -> int:
        """How many bytes are still to be read."""
        return self._written - self._front[2]

    def write(self, items: Sequence[tuple[Event, Any]]) -> None:
        """Append a batch.

        Raises:
            OSError: the disk is full. Nothing of the batch is there.
        """
        record: bytes = msgpack.packb([(event.value, data, getattr(data, "name", None)) for event, data in items])
        position = self._space.append(_HEAD.pack(0, len(record)) + record)
        if self._last:
            self._space.overwrite(self._last, _NEXT.pack(position))
        else:
            self._first = position
        self._last = position
        self._written += _HEAD.size + len(record)

    def read(self) -> deque[tuple[Event, Any]]:
        """Return the first batch, or what is left of it. What the caller takes from it is removed.

        Empty if there's nothing in the file any more.

        Raises:
            OSError: it can't be read.
        """
        batch, position, passed = self._front
        if not batch and position != self._last:
            if position:
                (position,) = _NEXT.unpack(self._space.read(position, _NEXT.size))
            else:
                position = self._first
            _, size = _HEAD.unpack(self._space.read(position, _HEAD.size))
            fields = msgpack.unpackb(self._space.read(position + _HEAD.size, size), use_list=False)
            batch = deque(
                (_EVENTS[code], Blob(data, name) if isinstance(data, bytes) else data)
                for code, data, name in fields
            )
            self._front = batch, position, passed + _HEAD.size + size
        return batch

    def close(self) -> None:
        """Give the space back."""
        self._space.leave()
