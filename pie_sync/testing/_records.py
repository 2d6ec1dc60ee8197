"""What is remembered of the instances of a server, for whoever tests with it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Union

from ..events import Event
from ._encoding import parse_input

__all__ = ["InstanceRecord", "Record", "Records"]

MAX_INSTANCES = 1000
MAX_SIZE = 64 * 1024 * 1024
ITEM_OVERHEAD = 64

Item = Union[str, bytes]


@dataclass(frozen=True)
class InstanceRecord:
    """What is known of an instance: an element of :attr:`LocalServer.instances`. It never changes.

    Attributes:
        id: the instance's UUID.
        program: what was launched, as the client named it to the server: the name of a program, or its hash.
        username: whose instance it is.
        args: the arguments that it was launched with; on the process protocol the one JSON text.
        received: what the program has received, in order: a str for each message, bytes for each blob.
        event: how it ended: a terminal :class:`Event`; None if it had not ended.
        message: the text of that event: the program's result, or the reason why there is none.
    """

    id: str
    program: str
    username: str
    args: tuple[str, ...] = ()
    received: tuple[str | bytes, ...] = ()
    event: Event | None = None
    message: str = ""
    _is_json: bool = field(default=False, repr=False)

    @property
    def input(self) -> Any:
        """What the one JSON text says (a text that is no JSON says None); None on the instance protocol."""
        return parse_input(self.args[0]) if self._is_json else None


class Record:
    """What is being noted of one instance. Made by :meth:`Records.begin`; safe to use from any thread."""

    def __init__(self, records: Records, launched: InstanceRecord) -> None:
        self._records = records
        self.launched = launched
        # The lock of the records guards what follows.
        self.received: list[Item] = []
        self.event: Event | None = None
        self.message = ""
        self.size = ITEM_OVERHEAD + sum(map(_size, launched.args))
        self.is_kept = True

    def add(self, item: Item) -> None:
        """Note that the program receives something; never blocks."""
        self._records.add(self, item)

    def finish(self, event: Event, message: str) -> None:
        """Note how the instance ends; never blocks."""
        self._records.finish(self, event, message)


class Records:
    """The records of the newest instances. Safe to use from any thread.

    There are never more than 1000, nor more than 64 MiB of what they hold. The oldest ones go first, and each as a
    whole, so that none that is there lacks something. An instance that receives more than that alone has none.
    """

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self._size = 0
        # Guards the two above, and what changes in a record. Nothing else is locked while it is held.
        self._lock = threading.Lock()

    def begin(self, launched: InstanceRecord) -> Record:
        """Begin to take notes of an instance."""
        record = Record(self, launched)
        with self._lock:
            self._records.append(record)
            self._make_room(record.size)
        return record

    def add(self, record: Record, item: Item) -> None:
        """See :meth:`Record.add`."""
        with self._lock:
            if record.is_kept:
                record.received.append(item)
                self._grow(record, _size(item))

    def finish(self, record: Record, event: Event, message: str) -> None:
        """See :meth:`Record.finish`."""
        with self._lock:
            if record.is_kept:
                record.event, record.message = event, message
                self._grow(record, _size(message))

    def snapshot(self) -> list[InstanceRecord]:
        """Return what is known of the instances, in the order of their launches."""
        with self._lock:
            return [
                replace(
                    record.launched,
                    received=tuple(record.received),
                    event=record.event,
                    message=record.message,
                )
                for record in self._records
            ]

    def _grow(self, record: Record, size: int) -> None:
        record.size += size
        self._make_room(size)

    def _make_room(self, size: int) -> None:
        self._size += size
        while self._size > MAX_SIZE or len(self._records) > MAX_INSTANCES:
            oldest = self._records.popleft()
            oldest.is_kept = False
            oldest.received.clear()  # the instance may live on for long
            self._size -= oldest.size


def _size(item: Item) -> int:
    return ITEM_OVERHEAD + len(item)
