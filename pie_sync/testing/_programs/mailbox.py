"""Messages and blobs that clients have sent to an instance and its program has not yet received."""

from __future__ import annotations

import threading
from collections import deque
from typing import Callable, TypeVar

__all__ = ["Mailbox", "Terminated", "clamp_timeout"]

T = TypeVar("T", str, bytes)


class Terminated(BaseException):
    """Raised in a program's thread by each call of the program's context once the instance is terminated.

    Not an :class:`Exception`, so that the program's own ``except Exception`` does not catch it.
    """


class Mailbox:
    """Two queues, one of messages and one of blobs. Any number of threads may wait on each.

    Safe to use from any thread. Unbounded, since the wire protocol cannot tell a client to slow down.

    Args:
        on_taken: called with each message and blob in the order in which they are taken, before the thread that
            takes it gets it; must not block.

    Attributes:
        has_sent_output: whether the program has sent something since it last took a message or a blob. Set by the
            instance.
    """

    def __init__(self, on_taken: Callable[[str | bytes], object]) -> None:
        self._on_taken = on_taken
        self.has_sent_output = False
        self._messages: deque[str] = deque()
        self._blobs: deque[bytes] = deque()
        self._closed = False
        # How many threads wait for a message, for a blob, and in put_blob_if_awaited().
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

    def put_blob_if_awaited(self, blob: bytes, timeout: float) -> bool:
        """Add a blob if the program is waiting for a blob.

        A program that has sent output may be about to wait, since the client may have sent the blob because of
        that output. In this case the call blocks until the program waits for a blob or a message, but for
        ``timeout`` seconds at most.

        Returns:
            False if the blob was dropped.
        """
        with self._changed:
            self._offers += 1
            self._changed.wait_for(
                lambda: self._closed or self._wants_blob() or self._message_takers,
                timeout if self.has_sent_output else 0,
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
        """Block for ``timeout`` seconds (None: without limit), or, with ``for_message``, until there is a message.

        Raises:
            Terminated: the mailbox was closed, before or during the call.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or (for_message and self._messages), clamp_timeout(timeout)
            )
            if self._closed:
                raise Terminated

    @property
    def has_message(self) -> bool:
        """Whether :meth:`get_message` would return without waiting."""
        return bool(self._messages)

    def close(self) -> None:
        """Make every current and later call that waits raise :class:`Terminated`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wants_blob(self) -> bool:
        return self._blob_takers > len(self._blobs)

    def _take(self, items: deque[T], timeout: float | None, what: str) -> T:
        """Take the oldest of ``items``; block for ``timeout`` seconds at most (None: without limit).

        Raises:
            TimeoutError: nothing came in time.
            Terminated: the mailbox was closed, before or during the call.
        """
        if self._offers:
            self._changed.notify_all()
        self._changed.wait_for(lambda: self._closed or items, clamp_timeout(timeout))
        if self._closed:
            raise Terminated
        if not items:
            raise TimeoutError(f"no {what} within {timeout} s")
        self.has_sent_output = False
        item = items.popleft()
        self._on_taken(item)
        return item


def clamp_timeout(timeout: float | None) -> float | None:
    """Return ``timeout`` within the range that a condition variable accepts."""
    return None if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX)
