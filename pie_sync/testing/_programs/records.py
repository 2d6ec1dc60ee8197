"""Records of the instances of a server, for the assertions of tests."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from ...events import Event
from .arguments import parse_input

__all__ = ["InstanceRecord", "Record", "Records"]

#: A line for each launch and each end; :mod:`pie_sync.testing.local_server` adds the connections.
activity = logging.getLogger("pie_sync.testing.activity")

MAX_INSTANCES = 1000
MAX_SIZE = 64 * 1024 * 1024
ITEM_OVERHEAD = 64

Item = Union[str, bytes]


@dataclass(frozen=True)
class InstanceRecord:
    """Snapshot of an instance: an element of :attr:`LocalServer.instances`. Immutable.

    Attributes:
        id: the instance's UUID.
        program: the launched program as the client named it in its request: the program's name, or its hash.
        username: the user who launched it.
        args: its arguments; on the process protocol the one JSON text.
        received: what the program has received, in order: a str for each message, bytes for each blob.
        event: the terminal :class:`Event`; None if it had not ended.
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
        """The value of the JSON text (None if the text is not JSON); None on the instance protocol."""
        return parse_input(self.args[0]) if self._is_json else None


class Record:
    """The mutable record of one instance. Only :class:`Records` reads and changes it, under its lock."""

    __slots__ = ("event", "is_kept", "launch", "message", "received", "size")

    def __init__(self, launch: tuple[str, str, str, Sequence[str], bool], size: int) -> None:
        self.launch = launch
        self.received: list[Item] = []
        self.event: Event | None = None
        self.message = ""
        self.size = size
        self.is_kept = True

    def snapshot(self) -> InstanceRecord:
        """Return the current state."""
        instance_id, program, username, args, is_json = self.launch
        return InstanceRecord(
            instance_id, program, username, tuple(args), tuple(self.received), self.event, self.message, is_json
        )


class Records:
    """The records of the newest instances. Safe to use from any thread; methods block on a short lock only.

    At most 1000 records are kept, with at most 64 MiB of content. The oldest records are dropped first, and always
    as a whole, so that no record is incomplete. An instance that receives more than 64 MiB has no record.
    """

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self._size = 0
        # Guards the two above and the content of all records. No other lock is taken while it is held.
        self._lock = threading.Lock()

    def begin(
        self, instance_id: str, program: str, username: str, args: Sequence[str], *, is_json: bool
    ) -> Record:
        """Add the record of a launch.

        Args:
            instance_id: the instance's UUID.
            program: the program as the client named it.
            username: the user who launched it.
            args: its arguments; must not change.
            is_json: whether ``args`` is one JSON text.
        """
        activity.info("launched %s as %s for %s", program, instance_id, username)
        record = Record((instance_id, program, username, args, is_json), sum(map(_size, args)))
        with self._lock:
            self._records.append(record)
            self._make_room(record.size)
        return record

    def receive(self, record: Record, item: Item) -> None:
        """Record a message or a blob that the program receives."""
        with self._lock:
            if record.is_kept:
                size = _size(item)
                record.received.append(item)
                record.size += size
                self._make_room(size)

    def finish(self, record: Record, event: Event, message: str) -> None:
        """Record the terminal event of an instance. The first one counts."""
        activity.info("ended %s (%s): %s", record.launch[0], record.launch[1], event.name)
        with self._lock:
            if record.is_kept and record.event is None:
                size = _size(message)
                record.event, record.message = event, message
                record.size += size
                self._make_room(size)

    def snapshot(self) -> list[InstanceRecord]:
        """Return the records, in the order of the launches."""
        with self._lock:
            return [record.snapshot() for record in self._records]

    def _make_room(self, size: int) -> None:
        self._size += size
        while self._size > MAX_SIZE or len(self._records) > MAX_INSTANCES:
            oldest = self._records.popleft()
            oldest.is_kept = False
            oldest.received.clear()  # the instance, which holds the record, may run for long
            self._size -= oldest.size


def _size(item: Item) -> int:
    return ITEM_OVERHEAD + len(item)
