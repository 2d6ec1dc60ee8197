"""Uploads: sends a payload in chunks, one upload at a time where the server has one slot for them."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Protocol

from .._protocol.chunks import count_chunks
from .._protocol.messages import Answer
from .._transport.mask import expect
from ..errors import UploadError
from .pending_request import PendingRequest
from .pending_requests import UNATTENDED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._support.time_limits import TimeLimit
    from .payloads import Payload
    from .pending_requests import PendingRequests

__all__ = ["ChunkHead", "Confirmation", "Progress", "Uploads"]

logger = logging.getLogger("pie_sync.transfer")

#: Makes the head of a chunk from correlation id, index, number of chunks and size.
ChunkHead = Callable[[int, int, int, int], bytes]

#: Called with the bytes sent so far and the bytes in all.
Progress = Optional[Callable[[int, int], None]]


class Sender(Protocol):
    """What sends messages: a :class:`Session`."""

    def send(self, *parts: bytes, deadline: float | None) -> None:
        """Send one message, made of parts, before the deadline."""

    def post(self, message: bytes) -> bool:
        """Send one message without waiting."""


class Confirmation(NamedTuple):
    """How the answer after the last chunk is waited for.

    Attributes:
        limit: how long, besides the limit of the upload.
        missing: what to say if it does not come.
        locks_up: whether no answer means that the server answers nothing more.
    """

    limit: TimeLimit
    missing: str = "all bytes sent, but not confirmed"
    locks_up: bool = False


class _Upload:
    """One upload that has its slot.

    Attributes:
        last_progress: when it last sent a chunk, by ``time.monotonic``.
    """

    __slots__ = ("last_progress",)

    def __init__(self) -> None:
        self.last_progress = monotonic()


class Uploads:
    """The uploads of one session. Thread-safe: uploads of the same slot wait for each other.

    Args:
        session: sends the chunks.
        pending: the session's pending requests.

    Attributes:
        locked_up_by: the client's method after which the server most probably answers nothing more; else None.
    """

    def __init__(self, session: Sender, pending: PendingRequests) -> None:
        self.locked_up_by: str | None = None
        self._session = session
        self._pending = pending
        # Guards _slots. The condition is notified when a slot is free. Code takes the lock itself, never the
        # condition: Ctrl-C could come between the condition's "with" and its block.
        self._lock = threading.Lock()
        self._slot_is_free = threading.Condition(self._lock)
        self._slots: dict[str, _Upload] = {}

    def upload(
        self,
        name: str,
        payload: Payload,
        head: ChunkHead,
        *,
        slot: str,
        limit: TimeLimit,
        progress: Progress,
        confirmed: bool = True,
        confirmation: Confirmation | None = None,
    ) -> None:
        """Send ``payload`` and wait until the server has confirmed it.

        Args:
            name: the client's method, for error messages.
            payload: what to send.
            head: makes the heads of its chunks.
            slot: uploads of the same slot wait for each other: the server has one place for them.
            limit: how long the upload may take.
            progress: called after each chunk.
            confirmed: whether the server answers to this kind of upload at all.
            confirmation: what is different for the answer after the last chunk.

        Raises:
            UploadError: the server refused it.
            PieTimeoutError: it was not done in time.
            PieConnectionError: the connection is lost.
        """
        upload = _Upload()
        try:
            # Inside of "try": Ctrl-C may come at the very moment at which the slot is taken.
            self._take_slot(upload, name, slot, limit)
            if confirmed:
                self._send_and_wait(
                    upload, name, payload, head, limit, progress, confirmation or Confirmation(limit)
                )
            else:
                for _ in self._send(upload, payload, lambda *place: head(0, *place), limit, progress):
                    pass
        finally:
            with self._lock:
                # (Without a call before "del": Ctrl-C may come after a call.)
                if slot in self._slots and self._slots[slot] is upload:
                    del self._slots[slot]
                    self._slot_is_free.notify_all()

    def _take_slot(self, upload: _Upload, name: str, slot: str, limit: TimeLimit) -> None:
        with self._lock:
            deadline = limit.deadline()
            while slot in self._slots:
                other, seen = self._slots[slot], self._slots[slot].last_progress
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    raise limit.expired(name, "another upload has not ended")
                self._slot_is_free.wait(left)
                if other.last_progress != seen or self._slots.get(slot) is not other:
                    deadline = limit.deadline()  # the other upload goes on, or it is another's turn
            self._slots[slot] = upload

    def _send(
        self,
        upload: _Upload,
        payload: Payload,
        head: Callable[[int, int, int], bytes],
        limit: TimeLimit,
        progress: Progress,
    ) -> Iterator[None]:
        """Send chunk after chunk; yield before each, so that the caller may stop."""
        expect(payload.size)
        total = count_chunks(payload.size)
        sent = 0
        for index, chunk in enumerate(payload.chunks()):
            yield
            self._session.send(head(index, total, len(chunk)), chunk, deadline=limit.deadline())
            upload.last_progress = monotonic()
            sent += len(chunk)
            if progress is not None:
                progress(sent, payload.size)

    def _send_and_wait(
        self,
        upload: _Upload,
        name: str,
        payload: Payload,
        head: ChunkHead,
        limit: TimeLimit,
        progress: Progress,
        confirmation: Confirmation,
    ) -> None:
        request = PendingRequest(name, ("response",))
        with self._pending.waiting(request) as corr_id:
            logger.debug("request %d: %s, %d bytes with the hash %s", corr_id, name, payload.size, payload.hash)
            complete = False
            try:
                for _ in self._send(upload, payload, lambda *place: head(corr_id, *place), limit, progress):
                    # The server answers early only to refuse; it would answer every further chunk as well.
                    if request.settled:
                        break
                else:
                    complete = True
                    logger.debug("request %d: all bytes are sent", corr_id)
                last = limit.earlier(confirmation.limit)
                if not request.wait(last.deadline()):
                    self.locked_up_by = name if confirmation.locks_up else self.locked_up_by
                    raise last.expired(name, confirmation.missing)
            except BaseException:
                if not request.settled and not complete:
                    # The server waits for the rest. A chunk that it must refuse makes it forget the upload, before
                    # another one can begin. Nothing of it is kept here meanwhile: the payload may be large.
                    total = count_chunks(payload.size)
                    self._session.post(head(UNATTENDED, total, total, 0))
                raise
            answer = request.result()
        assert isinstance(answer, Answer)
        if not answer.ok:
            raise UploadError(name, answer.text)
