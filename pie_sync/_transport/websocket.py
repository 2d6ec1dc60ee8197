"""An open WebSocket connection: frames both ways, keep-alive, close.

One thread reads (:meth:`WebSocket.read`), any thread writes.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Union

from .._support.counters import Counters
from .._support.signal_handlers import is_from_signal_handler, start_thread
from .._support.time_limits import acquire
from ..errors import PieConnectionError, PieTimeoutError
from .byte_stream import ByteStream, WouldBlock
from .frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    Buffer,
    FrameReader,
    Message,
    encode_close,
    encode_frame,
    opcode_and_payload,
    parse_close,
)
from .keep_alive import VANISHED_AFTER
from .tls import TlsSocket

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Frames", "WebSocket"]

#: Bytes or a view of them; or several frames of one message, each of these.
Frames = Union[Buffer, list[Buffer]]

logger = logging.getLogger("pie_sync.connection")

#: How many seconds the server has to end the TCP connection once both sides have sent their close frame.
_LINGER = 1.0

#: How many answers to pings wait at most for room to send them.
_MAX_PONGS = 100

#: After how many seconds the reading thread looks again whether a control frame, left to a sender, is sent.
_LOOK_AGAIN = 0.05

#: After how many seconds the reading thread looks again whether the peer's system still answers nothing.
_LOOK_AGAIN_FOR_ANSWER = 5.0

#: For how many seconds the reading thread asks again and again for the next message of a quick stream before it
#: sleeps, as a mutex does. Waking it costs both sides 10 to 50 us on a virtual machine, as long as the next
#: message takes. Measured with the real server on the same machine: 1.2 times the events per second.
_SPIN = 0.0002

#: A stream is quick after this many reads in a row, each of which
_STREAM_READS = 16
#: came within so many seconds of the one before, with nothing sent in between (an answer comes when it is ready),
_STREAM_INTERVAL = 0.0003
#: and brought less than so many bytes. A stream of more brings the next ones while these are being worked on.
_STREAM_READ_SIZE = 16 * 1024


class WebSocket:
    """An open connection. :meth:`read` belongs to one thread; everything else may be called from any.

    Args:
        sock: a connected socket, the handshake done.
        max_message_size: the most bytes of one message from the server.
        ping_interval: after how many seconds of silence a ping is sent; None: never.
        ping_timeout: how many seconds of silence after a ping mean that the connection is lost; None: any number.
            A host whose system does not even acknowledge the ping counts as vanished after ``VANISHED_AFTER`` s.
        counters: where to count what is sent and received.
        farewell: returns a message that goes right before the close frame, in the same write, when this side
            begins the closing handshake; nothing: none. It is called once, in any thread.

    Attributes:
        acknowledges_at_once: whether to acknowledge each read without TCP's usual delay. For a peer that leaves
            Nagle's algorithm on: of two writes in a row it holds the second one back until the first one is
            acknowledged, and that takes 40 ms. Costs 4 us for each read that is waited for.
    """

    def __init__(
        self,
        sock: socket.socket | TlsSocket,
        *,
        counters: Counters | None = None,
        max_message_size: int,
        ping_interval: float | None = None,
        ping_timeout: float | None = None,
        farewell: Callable[[], bytes] = bytes,
    ) -> None:
        self.acknowledges_at_once = False
        self._stream = ByteStream(sock)
        self._frames = FrameReader(max_message_size)
        self._counters = counters or Counters()
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._last_received = monotonic()
        # How many reads in a row there were of a quick stream, and how many messages had been sent when it began.
        self._stream_reads = 0
        self._sent_before = 0
        self._ping_sent: float | None = None
        # Serialises frames. Held while a frame is written: until the writer's deadline at most.
        self._send_lock = threading.Lock()
        # Held by the next sender in line. Without it, an upload that takes the send lock again would starve other
        # threads: measured for up to twenty chunks.
        self._next_lock = threading.Lock()
        # The rest of a message that was not written before its deadline, frame by frame; its first frame may be a
        # rest as well. It must be sent before any other message.
        self._unsent: deque[memoryview] = deque()
        # Pings to be sent. The reading thread must not wait for the send lock, so a sender may send them.
        self._pings: deque[Buffer] = deque()
        # The close frame, and before it the farewell. It follows whatever waits to be sent.
        self._closing: deque[Buffer] = deque()
        self._farewell = farewell
        # The answers to the newest pings: those to earlier ones may be left out (RFC 6455 section 5.5.3), so that
        # a server that pings and does not read can't fill the memory.
        self._pongs: deque[Buffer] = deque(maxlen=_MAX_PONGS)
        # Messages of threads that must not wait: see post().
        self._posted: deque[Frames] = deque()
        # Serialises the decision who sends the one close frame.
        self._close_lock = threading.Lock()
        self._close_sent = False
        self._ending: PieConnectionError | None = None
        # Whether the reading thread waits, or is about to, where nothing but input wakes it.
        self._waits_for_input = False
        # Sends what a sender left behind while the reading thread waited so. Few connections ever have one.
        self._flusher: threading.Thread | None = None
        # Whether the last read emptied the socket, so that the next one should wait at once.
        self._is_drained = not self._stream.is_tls
        self._aborted = False

    # --- writing ----------------------------------------------------------------------------------------

    def send(
        self,
        frames: Frames,
        deadline: float | None,
        count: int = 1,
        on_begin: Callable[[], None] | None = None,
    ) -> None:
        """Send messages, all of them or none. Blocks while others send, and while the peer doesn't read.

        Args:
            frames: the frames of the messages, as :func:`encode_frame` returns them, concatenated; or as a list,
                and then control frames may come between them.
            deadline: a value of ``time.monotonic``; None is without limit.
            count: how many messages.
            on_begin: called right before the first byte is written: without that, nothing was sent.

        Raises:
            PieTimeoutError: the messages could not be sent in time. If a part of them was sent, the rest is sent
                as soon as there is room, before any other message.
            PieConnectionError: the connection is lost.
        """
        acquired: list[bool] = []
        try:
            is_free = not self._next_lock.locked() and acquire(self._send_lock, 0, acquired)
            if not is_free and not self._wait_in_line(deadline, acquired):
                raise PieTimeoutError("the connection is busy with other messages: nothing was sent")
            # A message that can't be sent any more need not wait for what is left over.
            if self._has_unsent() and not self._close_sent and not self._write_left_overs(deadline):
                raise PieTimeoutError("the server does not read: nothing was sent")
            if self._close_sent:  # a close frame may have been among what was left over
                raise PieConnectionError("the connection is being closed")
            if on_begin is not None:
                on_begin()
            if not self._write(frames, deadline):
                raise PieTimeoutError("the server does not read: the message was not sent in time")
            self._counters.messages_sent += count
            self._counters.bytes_sent += _size(frames)
        finally:
            if True in acquired:
                self._send_lock.release()
            self._flush()

    def post(self, frames: Frames, *, may_lock: bool = True) -> bool:
        """Send one message without ever waiting: whoever holds the send lock, or acquires it next, sends it along.

        Takes no lock that may be held, so finalizers may call it. It is sent at once if the connection is free and
        there is room; if there is no room, with the next message or ping, or when the reading thread wakes.

        Args:
            frames: as for :meth:`send`.
            may_lock: whether the lock of TLS may be waited for. Not for a finalizer in the reading thread of any
                connection: over TLS the message then waits for a sender, or until the reading thread waits anew.

        Returns:
            Whether nothing is left to be sent.
        """
        if self._close_sent:
            return False
        self._posted.append(frames)
        if may_lock or not self._stream.is_tls:
            self._flush(may_start_thread=False)
        return not self._has_unsent()

    def _wait_in_line(self, deadline: float | None, acquired: list[bool]) -> bool:
        """Acquire the send lock as the next one, or after whoever is: see :func:`acquire`."""
        is_next: list[bool] = []
        try:
            return acquire(self._next_lock, deadline, is_next) and acquire(self._send_lock, deadline, acquired)
        finally:
            if True in is_next:
                self._next_lock.release()

    def _write(self, frames: Frames, deadline: float | None) -> bool:
        """Write bytes; the caller holds the send lock. Return False at the deadline: the rest is kept."""
        try:
            if isinstance(frames, list):
                self._unsent.extend(map(memoryview, frames))
                return self._write_unsent(deadline)
            rest = self._stream.send_all(memoryview(frames), deadline)
            if rest:
                self._unsent.append(rest)
            return not rest
        except BaseException as error:
            if isinstance(error, OSError) and not is_from_signal_handler(error):
                raise PieConnectionError(f"the connection is lost: {error}") from error
            # A signal handler raised in the middle of a frame: nobody knows how much of it is written. End the
            # connection, cleanly for everybody else, rather than send what the server must misunderstand.
            self._stream.shut_down()
            raise

    def _write_unsent(self, deadline: float | None) -> bool:
        """Write the rest of a message, and control frames between its fragments (RFC 6455 section 5.4)."""
        unsent = self._unsent
        while unsent:
            rest = self._stream.send_all(unsent[0], deadline)
            if rest:
                unsent[0] = rest
                return False
            unsent.popleft()
            waiting = self._pongs or self._pings
            if unsent and waiting:
                unsent.appendleft(memoryview(waiting.popleft()))
        return True

    def _write_left_overs(self, deadline: float | None) -> bool:
        if self._unsent and not self._write([], deadline):
            return False
        for waiting in (self._pongs, self._posted, self._pings, self._closing):
            while waiting:
                frames = waiting.popleft()
                if waiting is self._posted:
                    self._counters.messages_sent += 1
                    self._counters.bytes_sent += _size(frames)
                if not self._write(frames, deadline):
                    return False
        return True

    def _flush(self, *, may_start_thread: bool = True) -> None:
        """Send what is left over and the control frames, without ever waiting.

        What finds no room is sent as soon as there is some: by the reading thread, by the next sender, or while
        the reading thread waits for input alone, by a thread of its own.
        """
        # Whoever releases the lock looks again, so that a frame appended just before is not left lying.
        while self._has_unsent():
            acquired: list[bool] = []
            try:
                if not acquire(self._send_lock, 0, acquired):
                    return  # whoever has it sends them along
                if not self._write_left_overs(deadline=0):
                    # Here, with the send lock: finish() closes the socket with it, and joins the flusher before.
                    if may_start_thread and self._waits_for_input and self._flusher is None and not self._aborted:
                        self._start_flusher()
                    return
            except PieConnectionError as error:
                if is_from_signal_handler(error):
                    raise
                return  # read() finds out, and tells
            finally:
                if True in acquired:
                    self._send_lock.release()

    def _start_flusher(self) -> None:
        flusher = threading.Thread(target=self._flush_when_possible, name="pie-sync flusher", daemon=True)
        self._flusher = flusher
        try:
            start_thread(flusher)
        except RuntimeError:  # there can be no more threads: the next ping or message takes the rest along
            self._flusher = None

    def _flush_when_possible(self) -> None:
        """The thread that sends what was left behind, and ends."""
        while True:
            with self._send_lock:
                if self._aborted or not self._has_unsent():
                    self._flusher = None
                    return
            # Without the lock. A socket that is shut down counts as writable.
            self._stream.wait(read=False, write=True, timeout=_LINGER)
            self._flush()

    # --- reading ----------------------------------------------------------------------------------------

    def read(self) -> list[Message]:
        """Block until at least one message is there, and return all that are.

        Pings are answered and sent here, and a close is answered; none of these is returned.

        Returns:
            For a small binary message its payload, as bytes. For others (opcode, payload) pairs: ``BINARY`` with
            something bytes-like that may be valid only until the next call, ``TEXT`` with a str.

        Raises:
            PieConnectionError: the connection is lost, or closed by the server, or it broke the WebSocket
                protocol. Messages that came before are returned first.
        """
        while True:
            if self._ending is None and self._frames.error is not None:
                self._end(self._frames.error.code, str(self._frames.error), self._frames.error)
            if self._ending is not None:
                raise self._ending
            if self._aborted:
                # The system's buffers may hold megabytes more, and nobody waits for them.
                raise PieConnectionError("the connection was given up")
            # If the last read did not fill the buffer, wait at once rather than poll: that saves a system call,
            # and contention for the interpreter lock with the consumer that was woken just now.
            is_drained, self._is_drained = self._is_drained, False
            timeout = self._keep_alive() if is_drained else None
            buffer = self._frames.buffer()
            # In this order: a sender leaves something unsent first, and looks then where this thread is.
            self._waits_for_input = is_drained
            try:
                if is_drained and not self._has_unsent():
                    spin = _SPIN if self._stream_reads >= _STREAM_READS else 0.0
                    count = self._stream.recv_waiting(buffer, timeout, spin)
                else:
                    count = self._stream.recv_into(buffer)
            except WouldBlock as blocked:
                self._wait(blocked.want_write)
                continue
            except OSError as error:
                raise PieConnectionError(f"the connection is lost: {error}") from error
            finally:
                self._waits_for_input = False
            if count == 0:
                raise PieConnectionError("the server ended the connection without a close frame")
            now = monotonic()
            sent = self._counters.messages_sent
            is_next = now - self._last_received < _STREAM_INTERVAL and count < _STREAM_READ_SIZE
            if is_next and sent == self._sent_before:
                self._stream_reads += 1
            else:
                self._stream_reads, self._sent_before = 0, sent
            self._last_received = now
            self._ping_sent = None
            self._counters.bytes_received += count
            self._is_drained = count < len(buffer) and not self._stream.is_tls
            if self.acknowledges_at_once and self._is_drained:
                self._stream.acknowledge_at_once()
            messages = self._frames.received(count)
            if self._frames.has_control:
                messages = self._handle_control(messages)
            if messages:
                self._counters.messages_received += len(messages)
                return messages

    def _handle_control(self, messages: list[Message]) -> list[Message]:
        """Answer the control frames, and return the other messages, up to a close frame."""
        data = []
        for message in messages:
            opcode, payload = opcode_and_payload(message)
            if opcode == PING:
                self._pongs.append(encode_frame(PONG, payload))
                self._flush()
            elif opcode == CLOSE:
                code, reason = parse_close(payload)
                logger.debug("received a close frame with code %d", code)
                self._end(
                    1000 if code == 1005 else code,
                    f"the server closed the connection: {code}{' ' if reason else ''}{reason}",
                )
                break
            elif opcode != PONG:
                data.append(message)
        return data

    def _end(self, code: int, reason: str, cause: Exception | None = None) -> None:
        """Send a close frame, and let :meth:`read` raise once it has returned the messages that came before."""
        self._ending = PieConnectionError(reason)
        self._ending.__cause__ = cause
        self.send_close(code, reason if cause else "")

    def _has_unsent(self) -> bool:
        """Whether something waits for room to be sent, or for a sender to send it along."""
        return bool(self._pongs or self._posted or self._unsent or self._pings or self._closing)

    def _wait(self, want_write: bool) -> None:
        """Wait for input, at most until the keep-alive has something to do."""
        timeout = self._keep_alive()
        if self.acknowledges_at_once:
            self._stream.acknowledge_at_once()
        self._waits_for_input = True
        unsent = self._has_unsent()
        self._waits_for_input = not unsent
        if unsent and self._send_lock.locked():
            # The sender sends it along, or gives up, and does not wake this thread in either case.
            timeout = _LOOK_AGAIN if timeout is None else min(timeout, _LOOK_AGAIN)
            self._stream.wait(read=not want_write, write=want_write, timeout=timeout)
        else:
            self._stream.wait(read=not want_write, write=want_write or unsent, timeout=timeout)
        self._waits_for_input = False
        if unsent:
            self._flush()

    def _keep_alive(self) -> float | None:
        """Send a ping when one is due, and return in how many seconds to look again; None: never.

        Raises:
            PieConnectionError: the server has not answered the last ping in time.
        """
        if self._ping_interval is None:
            return None
        now = monotonic()
        if self._ping_sent is not None:
            look_again = self._check_whether_vanished(now - self._ping_sent)
            if self._ping_timeout is None:
                return look_again
            # Over a slow line the ping may wait behind an upload. While that progresses, the peer is alive.
            left = max(self._ping_sent, self._stream.last_taken) + self._ping_timeout - now
            if left <= 0:
                raise PieConnectionError(
                    f"the connection is lost: nothing came for {now - self._last_received:.1f} s,"
                    " not even an answer to a ping"
                )
            return min(left, look_again)
        left = self._last_received + self._ping_interval - now
        if left > 0:
            return left
        logger.debug("sending a ping after %.1f s of silence", now - self._last_received)
        self._ping_sent = now
        # Without ever waiting: whoever holds the send lock sends it along.
        self._pings.append(encode_frame(PING, os.urandom(4)))
        self._flush()
        return VANISHED_AFTER if self._ping_timeout is None else min(self._ping_timeout, VANISHED_AFTER)

    def _check_whether_vanished(self, waited: float) -> float:
        """Raise if the peer's system is gone, so long after a ping. Return in how many seconds to look again."""
        if waited < VANISHED_AFTER:
            return VANISHED_AFTER - waited
        unanswered = self._stream.unanswered_for()
        if unanswered >= VANISHED_AFTER:
            raise PieConnectionError(
                f"the connection is lost: the other machine has acknowledged nothing for {unanswered:.1f} s,"
                " not even a ping"
            )
        return _LOOK_AGAIN_FOR_ANSWER

    # --- the end ----------------------------------------------------------------------------------------

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the closing handshake, or answer the server's. Never waits; messages can't be sent any more.

        The reading thread sees the server's answer, and :meth:`read` raises.
        """
        with self._close_lock:
            if self._close_sent:
                return
            self._close_sent = True
        logger.debug("sending a close frame with code %d", code)
        frames = encode_frame(CLOSE, encode_close(code, reason))
        is_answer = self._ending is not None and self._ending.__cause__ is None
        farewell = b"" if is_answer else self._farewell()
        self._closing.append(encode_frame(BINARY, farewell) + frames if farewell else frames)
        self._flush()

    def finish(self) -> None:
        """Give the socket back, when :meth:`read` has raised. For the reading thread; blocks for ``_LINGER`` s.

        After the closing handshake it is the server that ends the TCP connection (RFC 6455 section 7.1.1): the
        side that does it first is left with the port in TIME_WAIT.
        """
        deadline = monotonic() + _LINGER
        while self._ending is not None and monotonic() < deadline:
            try:
                if self._stream.recv_into(self._frames.buffer()) == 0:  # and forget it
                    break
            except WouldBlock as blocked:
                self._flush()
                left = deadline - monotonic()
                self._stream.wait(read=not blocked.want_write, write=blocked.want_write, timeout=left)
            except OSError:
                break
        # Writers wait for room with the send lock held. Shutting down wakes them. Once the lock is free no writer
        # uses the socket any more, so its file descriptor may be reused.
        self._aborted = True
        self._stream.shut_down()
        with self._send_lock:
            self._close_sent = True
            flusher = self._flusher
        if flusher is not None and flusher.ident is not None:
            flusher.join()  # it waits for nothing any more
        with self._send_lock:
            self._stream.close()
            self._unsent.clear()
        # A lost session is in a cycle with what belongs to it. Until the garbage collector finds it, which may be
        # thirty reconnections later, it would keep half a megabyte.
        self._frames.release()

    def abort(self) -> None:
        """End the connection without a handshake: :meth:`read` raises at once. Never waits."""
        self._aborted = True
        self._stream.shut_down()


def _size(frames: Frames) -> int:
    return sum(map(len, frames)) if isinstance(frames, list) else len(frames)
