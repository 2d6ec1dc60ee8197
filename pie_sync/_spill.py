"""Events on disk: where they go when nobody consumes them and they would fill the memory."""

from __future__ import annotations

import tempfile
from collections import deque
from typing import TYPE_CHECKING, Any

import msgpack

from .events import Blob, Event

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SpillFile"]

_EVENTS = {event.value: event for event in Event}


class SpillFile:
    """A first-in-first-out file of batches of events, without a name: it's gone when the process is.

    Not thread-safe: the queue's lock guards it.
    """

    def __init__(self) -> None:
        # Unbuffered: what a full disk does not take must not be tried again whenever something is read.
        self._file = tempfile.TemporaryFile(prefix="pie-sync-", buffering=0)  # noqa: SIM115 - closed by close()
        # The batch that was read last, as far as it isn't taken, and where the next one begins. One attribute, so
        # that Ctrl-C can't come between the two.
        self._front: tuple[deque[tuple[Event, Any]], int] = deque(), 0
        self._write_position = 0

    @property
    def size(self) -> int:
        """How many bytes are still to be read."""
        return self._write_position - self._front[1]

    def write(self, items: Sequence[tuple[Event, Any]]) -> None:
        """Append a batch.

        Raises:
            OSError: the disk is full. Nothing of the batch is there.
        """
        record: bytes = msgpack.packb(
            [(event.value, data, getattr(data, "name", None)) for event, data in items], use_bin_type=True
        )
        self._file.seek(self._write_position)
        left = memoryview(len(record).to_bytes(8, "big") + record)
        while left:
            left = left[self._file.write(left) :]
        self._write_position += 8 + len(record)

    def read(self) -> deque[tuple[Event, Any]]:
        """Return the first batch, or what is left of it. What the caller takes from it is removed.

        Empty if there's nothing in the file any more.

        Raises:
            OSError: it can't be read.
        """
        batch, position = self._front
        if not batch and position < self._write_position:
            self._file.seek(position)
            size = int.from_bytes(self._read(8), "big")
            fields = msgpack.unpackb(self._read(size), raw=False, use_list=False)
            batch = deque(
                (_EVENTS[code], Blob(data, name) if isinstance(data, bytes) else data)
                for code, data, name in fields
            )
            self._front = batch, position + 8 + size
        return batch

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def _read(self, size: int) -> bytes:
        """Read so many bytes; the system may give fewer at a time."""
        parts = []
        while size:
            part = self._file.read(size)
            if not part:
                raise OSError("the temporary file became shorter")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
