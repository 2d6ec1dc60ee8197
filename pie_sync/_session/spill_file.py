"""Events on disk: where they go when nobody consumes them and they would fill the memory.

The queues of a client share a few temporary files without names (:class:`SpillSpace`), since there may be more
queues than a process may have open files. Each queue has a chain of extents in them (:class:`SpillFile`): what it
has read is reused, and a file in which nothing is left is closed. So what is used on disk follows what is unread.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import msgpack

from .._support.large_pages import filled
from ..events import Blob, Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Item = tuple[Event, Any]

__all__ = ["ITEM_SIZE", "PIECE_SIZE", "SpillFile", "SpillSpace"]

#: What an event takes in memory besides its text or bytes, at the most: the tuple, and its place in the deque.
ITEM_SIZE = 80

#: About how many bytes of events come back from the disk at a time. What is larger alone is read and written as it
#: is: packing it would take its size in memory again.
PIECE_SIZE = 64 * 1024

#: How large the extents of a queue are: the first ones small, for thousands of queues with little on disk; the
#: others large, so that gigabytes take few.
_SMALL, _LARGE = 64 * 1024, 1024 * 1024
_SMALL_EXTENTS = 16

#: Where a file ends and the next one begins: a process may have only so many open files, but a whole file must be
#: read before it is given back. So they grow with what there is.
_MIN_FILE_SIZE = 64 * 1024 * 1024
_FILE_SHARE = 8

#: The head of a record: the size of what is packed, and of one large event behind it (0: there is none).
_HEAD = struct.Struct("!QQ")

_EVENTS = {event.value: event for event in Event}


class _File:
    """One temporary file. It is closed when nothing refers to it any more.

    What is freed is put back without a lock: a queue may be collected as garbage anywhere, also in a child that
    was forked while another thread held that lock. Nor is anything written then: the parent has the same file.

    Args:
        limit: how many bytes it may have.

    Raises:
        OSError: there can't be a file.
    """

    _descriptor: int | None = None  # for __del__, if there is none

    def __init__(self, limit: int) -> None:
        import tempfile  # noqa: PLC0415 - see SpillSpace

        self.size = 0
        # A bare descriptor: the garbage collector would finalize a file object first, which then warns that it was
        # not closed. And what a full disk does not take must not wait in a buffer to be tried again.
        with tempfile.TemporaryFile(prefix="pie-sync-", buffering=0) as file:
            self._descriptor = os.dup(file.fileno())
        self._limit = limit
        self._free: dict[int, deque[int]] = {_SMALL: deque(), _LARGE: deque()}

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    @property
    def _open_descriptor(self) -> int:
        assert self._descriptor is not None
        return self._descriptor

    def take(self, size: int) -> int | None:
        """Return the position of ``size`` bytes that nobody uses; None if there are none. One thread at a time."""
        try:
            return self._free[size].pop()
        except IndexError:
            pass
        if self.size + size > self._limit:
            return None
        self.size += size
        return self.size - size

    def give_back(self, size: int, position: int) -> None:
        """Let what :meth:`take` returned be taken again. From any thread; takes no lock."""
        self._free[size].append(position)

    def write(self, position: int, data: memoryview) -> None:
        """Write all of ``data``.

        Raises:
            OSError: the disk is full.
        """
        while data:
            written = self._write_some(position, data)
            position += written
            data = data[written:]

    def read(self, position: int, data: memoryview) -> None:
        """Fill all of ``data``.

        Raises:
            OSError: the file can't be read.
        """
        while data:
            part = self._read_some(position, len(data))
            if not part:
                raise OSError("the temporary file became shorter")
            data[: len(part)] = part
            position += len(part)
            data = data[len(part) :]

    # Neither moves a position that all threads would share: so they need no lock, and the reader thread need not
    # wait until a consumer has read.

    if sys.platform != "win32":

        def _write_some(self, position: int, data: memoryview) -> int:
            return os.pwrite(self._open_descriptor, data, position)

        def _read_some(self, position: int, size: int) -> bytes:
            return os.pread(self._open_descriptor, size, position)

    else:

        def _write_some(self, position: int, data: memoryview) -> int:
            raise NotImplementedError

        def _read_some(self, position: int, size: int) -> bytes:
            raise NotImplementedError


class SeekingFile(_File):
    """The same for systems that can only read and write where the file's position is: Windows."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._lock = threading.Lock()

    def _write_some(self, position: int, data: memoryview) -> int:
        with self._lock:
            os.lseek(self._open_descriptor, position, os.SEEK_SET)
            return os.write(self._open_descriptor, data)

    def _read_some(self, position: int, size: int) -> bytes:
        with self._lock:
            os.lseek(self._open_descriptor, position, os.SEEK_SET)
            return os.read(self._open_descriptor, size)


class _Extent:
    """A part of a file: the bytes of one queue from ``start`` to ``end``, counted from the first that it wrote."""

    __slots__ = ("_file", "_position", "end", "start")

    def __init__(self, file: _File, position: int, start: int, size: int) -> None:
        self._file = file
        self._position = position
        self.start = start
        self.end = start + size

    def write(self, at: int, data: memoryview) -> None:
        self._file.write(self._position + at - self.start, data)

    def read(self, at: int, data: memoryview) -> None:
        self._file.read(self._position + at - self.start, data)

    def give_back(self) -> None:
        self._file.give_back(self.end - self.start, self._position)


class SpillSpace:
    """The temporary files of many queues. One thread at a time may write; reading goes on beside it."""

    make_file = SeekingFile if sys.platform == "win32" else _File

    def __init__(self) -> None:
        # Not with `import pie_sync`, which is quick; and not when it is needed: by then the process may have no
        # descriptor left to import anything with.
        import tempfile  # noqa: PLC0415, F401

        # Weak: the extents hold their files.
        self._files: WeakSet[_File] = WeakSet()

    @property
    def size(self) -> int:
        """How many bytes the files have."""
        return sum(file.size for file in list(self._files))

    def take(self, start: int, size: int) -> _Extent:
        """Return an extent for the bytes of a queue from ``start`` on.

        Raises:
            OSError: there can't be a file.
        """
        for file in list(self._files):
            position = file.take(size)
            if position is not None:
                return _Extent(file, position, start, size)
        limit = max(_MIN_FILE_SIZE, self.size // _FILE_SHARE)
        file = self.make_file(limit)
        self._files.add(file)
        position = file.take(size)
        assert position is not None
        return _Extent(file, position, start, size)


class SpillFile:
    """The events of one queue on disk: first in, first out.

    One thread may write while another one reads. What belongs together is one attribute, or is set last: so
    neither sees half of what the other does, and Ctrl-C comes before or after it.

    Args:
        space: where to write; None makes one.

    Attributes:
        reading: held by the consumer that reads. Never by a thread that writes.
    """

    def __init__(self, space: SpillSpace | None = None) -> None:
        self.reading = threading.Lock()
        self._space = SpillSpace() if space is None else space
        self._extents: deque[_Extent] = deque()
        # What the last read() brought, as far as it isn't taken; and how many bytes it and all before it had.
        self._front: tuple[deque[Item], int] = deque(), 0
        # For the thread that writes: how many bytes are there to be read, and the extent that they end in.
        self._written = 0
        self._last: _Extent | None = None

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Give back all that is on disk. Takes no lock: finalizers call it."""
        while self._extents:
            self._extents.popleft().give_back()

    @property
    def size(self) -> int:
        """How many bytes are still to be read. Never waits."""
        return self._written - self._front[1]

    def write(self, items: Iterable[Item]) -> None:
        """Append events.

        Raises:
            OSError: the disk is full. It is as if nothing had been tried.
        """
        new: list[_Extent] = []
        end, last = self._written, self._last
        try:
            for part in _records(items):
                data = memoryview(part).cast("B")
                while data:
                    if last is None or last.end == end:
                        last = self._space.take(end, self._next_size(len(new)))
                        new.append(last)
                    fitting = data[: last.end - end]
                    last.write(end, fitting)
                    end += len(fitting)
                    data = data[len(fitting) :]
        except BaseException:
            for extent in new:
                extent.give_back()
            raise
        self._extents.extend(new)
        self._last = last
        self._written = end

    def _next_size(self, new: int) -> int:
        return _SMALL if len(self._extents) + new < _SMALL_EXTENTS else _LARGE

    def read(self) -> deque[Item]:
        """Return the first events, or what is left of them. What the caller takes from the deque is removed.

        Blocks while the disk is read. Empty if there's nothing on it any more.

        Raises:
            OSError: it can't be read.
            MemoryError: there is no memory for the next event. It stays on disk.
        """
        batch, position = self._front
        if not batch and position != self._written:
            packed_size, raw_size = _HEAD.unpack(self._bytes(position, _HEAD.size))
            position += _HEAD.size
            fields = msgpack.unpackb(self._bytes(position, packed_size), use_list=False)
            position += packed_size
            if raw_size:
                [(code, _, name)] = fields
                batch = deque([(_EVENTS[code], self._large(_EVENTS[code], position, raw_size, name))])
            else:
                batch = deque(
                    (_EVENTS[code], Blob(data, name) if isinstance(data, bytes) else data)
                    for code, data, name in fields
                )
            self._front = batch, position + raw_size
        # Also what a call that was interrupted did not come to.
        passed = self._front[1]
        while self._extents and self._extents[0].end <= passed:
            self._extents.popleft().give_back()
        return batch

    def _large(self, event: Event, position: int, size: int, name: str | None) -> str | bytes:
        if event is not Event.Blob:
            return str(self._bytes(position, size), "utf-8")
        blob = filled(Blob, size, lambda data: self._read_into(position, data))
        blob.name = name
        return blob

    def _bytes(self, position: int, size: int) -> bytearray:
        data = bytearray(size)
        self._read_into(position, memoryview(data))
        return data

    def _read_into(self, position: int, data: memoryview) -> None:
        index = 0
        while data:
            extent = self._extents[index]
            if position < extent.end:
                part = data[: extent.end - position]
                extent.read(position, part)
                position += len(part)
                data = data[len(part) :]
            index += 1


def _records(items: Iterable[Item]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of records: events packed together up to PIECE_SIZE, each larger one by itself."""
    piece: list[tuple[int, str | bytes | None, str | None]] = []
    size = 0
    for event, data in items:
        name = getattr(data, "name", None)
        if len(data) >= PIECE_SIZE:
            if piece:
                yield _record(piece)
                piece, size = [], 0
            raw = data if isinstance(data, bytes) else data.encode()
            yield _record([(event.value, None, name)], len(raw))
            yield raw
            continue
        piece.append((event.value, data, name))
        size += ITEM_SIZE + len(data)
        if size >= PIECE_SIZE:
            yield _record(piece)
            piece, size = [], 0
    if piece:
        yield _record(piece)


def _record(fields: list[tuple[int, str | bytes | None, str | None]], raw_size: int = 0) -> bytes:
    # Without "unicode_errors" each str would keep its UTF-8 for later, and take up to twice the memory.
    packed: bytes = msgpack.packb(fields, unicode_errors="strict")
    return _HEAD.pack(len(packed), raw_size) + packed
