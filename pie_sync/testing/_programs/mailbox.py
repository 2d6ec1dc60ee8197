"""What a client has sent to an instance and its program has not yet taken."""

from __future__ import annotations

import threading
from collections import deque
from typing import Callable, TypeVar

__all__ = ["Mailbox", "Terminated"]

T = TypeVar("T", str, bytes)


class Terminated(BaseException):
    """Raised in a program's thread by whatever it calls after the instance was terminated.

    Not an :class:`Exception`, so that a program's own ``except Exception`` does not swallow it.
    """


class Mailbox:
    """Two queues, messages and blobs, with one thread or more waiting on each.

    Safe to use from any thread. It is not bounded: the wire protocol has no way to tell a client to slow down.

    Args:
        on_taken: called with each message and each blob that is taken, in that order, before whoever takes it gets
            it; must not block.

    Attributes:
        has_spoken: whether the program has sent something since it last took a message or a blob. Set by whoever
            sends it.
    """

    def __init__(self, on_taken: Callable[[str | bytes], object]) -> None:
        self._on_taken = on_taken
        self.has_spoken = False
        self._messages: deque[str] = deque()
        self._blobs: deque[bytes] = deque()
        self._closed = False
        # How many threads wait for each, and how many of offer_blob() watch that.
        self._message_takers = 0
        self._blob_takers = 0
        self._offers = 0
        # Guards the six above; notified when any of them changes.
        self._changed = threading.Condition()

    def put_message(self, message: str) -> None:
        """Add a message; never blocks."""
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def put_blob(self, blob: bytes) -> None:
        """Add a blob; never blocks."""
        with self._changed:
            self._blobs.append(blob)
            self._changed.notify_all()

    def offer_blob(self, blob: bytes, patience: float) -> bool:
        """Add a blob if the program waits for one at this moment.

        A program that has just said something may be on its way to that: what it said may be the very reason
        why the blob comes. It is given ``patience`` seconds to get there, or to wait for a message instead.

        Returns:
            False when the blob is dropped.
        """
        with self._changed:
            self._offers += 1
            self._changed.wait_for(
                lambda: self._closed or self._wants_blob() or self._message_takers,
                patience if self.has_spoken else 0,
            )
            self._offers -= 1
            if self._closed or not self._wants_blob():
                return False
            self._blobs.append(blob)
            self._changed.notify_all()
            return True

    def get_message(self, timeout: float | None = None) -> str:
        """Take the oldest message; see :meth:`_take`."""
        with self._changed:
            self._message_takers += 1
            try:
                return self._take(self._messages, timeout, "message")
            finally:
                self._message_takers -= 1

    def get_blob(self, timeout: float | None = None) -> bytes:
        """Take the oldest blob; see :meth:`_take`."""
        with self._changed:
            self._blob_takers += 1
            try:
                return self._take(self._blobs, timeout, "blob")
            finally:
                self._blob_takers -= 1

    def wait(self, timeout: float | None, *, for_message: bool) -> None:
        """Return when ``timeout`` seconds have passed, or a message is there and ``for_message`` is true.

        Raises:
            Terminated: the mailbox was closed, before or during the call.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (for_message and self._messages), bounded(timeout))
            if self._closed:
                raise Terminated

    @property
    def has_message(self) -> bool:
        """Whether :meth:`get_message` would return at once."""
        return bool(self._messages)

    def close(self) -> None:
        """Make every present and future wait end with :class:`Terminated`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wants_blob(self) -> bool:
        return self._blob_takers > len(self._blobs)

    def _take(self, items: deque[T], timeout: float | None, what: str) -> T:
        """Take the oldest of ``items``, waiting for it at most ``timeout`` seconds (None: without limit).

        Raises:
            TimeoutError: nothing came in time.
            Terminated: the mailbox was closed, before or during the call.
        """
        if self._offers:
            self._changed.notify_all()
        self._changed.wait_for(lambda: self._closed or items, bounded(timeout))
        if self._closed:
            raise Terminated
        if not items:
            raise TimeoutError(f"no {what} within {timeout} s")
        self.has_spoken = False
        item = items.popleft()
        self._on_taken(item)
        return item


def bounded(timeout: float | None) -> float | None:
    """Return ``timeout`` as a condition variable takes it: not negative, and not too large for the platform."""
    return None if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX)
