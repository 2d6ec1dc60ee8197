"""Uploads: cutting a payload into chunks and sending them, one upload at a time where the server wants that."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, Callable, Optional

from .._protocol.messages import Answer
from .._transport.mask import expect
from ..errors import UploadError
from .pending_request import Call
from .transfers import count_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._support.time_limits import Limit
    from .session import Session
    from .transfers import Payload

__all__ = ["ChunkHead", "Progress", "Uploader"]

logger = logging.getLogger("pie_sync.transfer")

#: Makes the head of a chunk from correlation id, index, number of chunks and size.
ChunkHead = Callable[[int, int, int, int], bytes]

#: Told the bytes sent so far and the bytes in all.
Progress = Optional[Callable[[int, int], None]]


class Uploader:
    """The uploads of one session. Thread-safe: uploads that would disturb each other take turns."""

    def __init__(self, session: Session) -> None:
        self._session = session
        # Guards the three below. The condition is notified when a turn is over; the lock is always taken itself,
        # since Ctrl-C could come between the condition's "with" and its block.
        self._lock = threading.Lock()
        self._turns = threading.Condition(self._lock)
        # Whose turn it is. An upload is known by its limit, so that it can tell whether it got its turn.
        self._running: dict[str, Limit] = {}
        self._last_progress = 0.0
        # Uploads that were given up half-way, by turn: the server still waits for the rest of them.
        self._half_done: dict[str, tuple[ChunkHead, int]] = {}

    def upload(
        self,
        name: str,
        payload: Payload,
        head: ChunkHead,
        *,
        turn: str,
        limit: Limit,
        progress: Progress,
        confirmed: bool = True,
    ) -> None:
        """Send ``payload`` and wait until the server has confirmed it.

        Args:
            name: the client's method, for error messages.
            payload: what to send.
            head: makes the heads of its chunks.
            turn: uploads of the same turn wait for each other: the server has one place for them.
            limit: how long it may take.
            progress: called after each chunk.
            confirmed: whether the server answers to this kind of upload at all.

        Raises:
            UploadError: the server refused it.
            PieTimeoutError: it was not done in time.
            PieConnectionError: the connection is lost.
        """
        try:
            # In here, since Ctrl-C may come at the very moment at which the turn is taken.
            self._take_turn(name, turn, limit)
            if confirmed:
                self._clear_half_done(name, turn, limit)
                self._send_and_wait(name, payload, head, turn, limit, progress)
            else:
                for _ in self._send(payload, lambda *place: head(0, *place), limit, progress):
                    pass
        finally:
            with self._lock:
                # (Without a call before "del", since after a call Ctrl-C may come.)
                if turn in self._running and self._running[turn] is limit:
                    del self._running[turn]
                    self._turns.notify_all()

    def _take_turn(self, name: str, turn: str, limit: Limit) -> None:
        with self._lock:
            deadline = limit.deadline()
            while turn in self._running:
                seen = self._last_progress
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    raise limit.expired(name, "another upload has not ended")
                self._turns.wait(left)
                if self._last_progress != seen:
                    deadline = limit.deadline()  # what we wait for goes on
            self._running[turn] = limit
            self._last_progress = monotonic()

    def _clear_half_done(self, name: str, turn: str, limit: Limit) -> None:
        """Make the server forget an upload that was given up, by a chunk that it must refuse."""
        half_done = self._half_done.get(turn)
        if half_done is None:
            return
        head, total = half_done
        call = Call(name, ("response",))
        with self._session.calls.waiting(call) as corr_id:
            self._session.send(head(corr_id, total, total, 0), deadline=limit.deadline())
            if not call.wait(limit.deadline()):
                raise limit.expired(name, "an earlier upload could not be cleared away")
        self._half_done.pop(turn, None)

    def _send(
        self, payload: Payload, head: Callable[[int, int, int], bytes], limit: Limit, progress: Progress
    ) -> Iterator[None]:
        """Send chunk after chunk; yield before each, so that the caller may stop."""
        expect(payload.size)
        total = count_chunks(payload.size)
        sent = 0
        for index, chunk in enumerate(payload.chunks()):
            yield
            self._session.send(head(index, total, len(chunk)), chunk, deadline=limit.deadline())
            self._last_progress = monotonic()
            sent += len(chunk)
            if progress is not None:
                progress(sent, payload.size)

    def _send_and_wait(
        self, name: str, payload: Payload, head: ChunkHead, turn: str, limit: Limit, progress: Progress
    ) -> None:
        call = Call(name, ("response",))
        with self._session.calls.waiting(call) as corr_id:
            logger.debug("request %d: %s, %d bytes with the hash %s", corr_id, name, payload.size, payload.hash)
            complete = False
            try:
                for _ in self._send(payload, lambda *place: head(corr_id, *place), limit, progress):
                    # The server answers early only to refuse; it would answer every further chunk as well.
                    if call.finished:
                        break
                else:
                    complete = True
                    logger.debug("request %d: all bytes are sent", corr_id)
                if not call.wait(limit.deadline()):
                    raise limit.expired(name, "all bytes sent, but not confirmed")
            except BaseException:
                if not call.finished and not complete:
                    self._half_done[turn] = (head, count_chunks(payload.size))
                raise
            answer = call.result()
        assert isinstance(answer, Answer)
        if not answer.ok:
            raise UploadError(name, answer.text)
