"""Events on disk: where they go when nobody consumes them and they would fill the memory."""

from __future__ import annotations

import tempfile
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
        self._file = tempfile.TemporaryFile(prefix="pie-sync-")  # noqa: SIM115 - closed by close()
        self._read_position = 0
        self._write_position = 0

    @property
    def size(self) -> int:
        """How many bytes are still to be read."""
        return self._write_position - self._read_position

    def write(self, items: Sequence[tuple[Event, Any]]) -> None:
        """Append a batch.

        Raises:
            OSError: the disk is full.
        """
        record: bytes = msgpack.packb(
            [(event.value, data, getattr(data, "name", None)) for event, data in items], use_bin_type=True
        )
        self._file.seek(self._write_position)
        self._file.write(len(record).to_bytes(8, "big"))
        self._file.write(record)
        self._write_position += 8 + len(record)

    def read(self) -> list[tuple[Event, Any]]:
        """Return the first batch and remove it. Only if there is one.

        Raises:
            OSError: it can't be read.
        """
        self._file.seek(self._read_position)
        size = int.from_bytes(self._file.read(8), "big")
        fields = msgpack.unpackb(self._file.read(size), raw=False, use_list=False)
        self._read_position += 8 + size
        return [
            (_EVENTS[code], Blob(data, name) if isinstance(data, bytes) else data) for code, data, name in fields
        ]

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()
