"""What a client has sent to an instance and its program has not yet taken."""

from __future__ import annotations

import threading
from collections import deque
from typing import TypeVar

__all__ = ["Mailbox", "Terminated"]

T = TypeVar("T")


class Terminated(BaseException):
    """Raised in a program's thread by whatever it calls after the instance was terminated.

    Not an :class:`Exception`, so that a program's own ``except Exception`` does not swallow it.
    """


class Mailbox:
    """Two queues, messages and blobs, with one thread or more waiting on each.

    Safe to use from any thread. It is not bounded: the wire protocol has no way to tell a client to slow down.
    """

    def __init__(self) -> None:
        self._messages: deque[str] = deque()
        self._blobs: deque[bytes] = deque()
        self._closed = False
        # Guards the three above; notified when any of them changes.
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

    def get_message(self, timeout: float | None = None) -> str:
        """Take the oldest message; see :meth:`_get`."""
        return self._get(self._messages, timeout, "message")

    def get_blob(self, timeout: float | None = None) -> bytes:
        """Take the oldest blob; see :meth:`_get`."""
        return self._get(self._blobs, timeout, "blob")

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

    def _get(self, items: deque[T], timeout: float | None, what: str) -> T:
        """Take the oldest of ``items``, waiting for it at most ``timeout`` seconds (None: without limit).

        Raises:
            TimeoutError: nothing came in time.
            Terminated: the mailbox was closed, before or during the call.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or items, bounded(timeout))
            if self._closed:
                raise Terminated
            if not items:
                raise TimeoutError(f"no {what} within {timeout} s")
            return items.popleft()


def bounded(timeout: float | None) -> float | None:
    """Return ``timeout`` as a condition variable takes it: not negative, and not too large for the platform."""
    return None if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX)
