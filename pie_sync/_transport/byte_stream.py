"""A connected socket as a stream of bytes. One thread reads while others write; every wait has a time limit."""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from time import monotonic
from typing import Protocol

from .._support.signal_handlers import is_from_signal_handler
from .dialer import shut_down
from .keep_alive import unanswered_for
from .tls import TlsSocket

__all__ = ["ByteStream", "WouldBlock"]

#: By how many seconds recv_waiting() may wait too long, so that the system need not be told a new limit each time.
_SLACK = 0.01

if sys.platform == "linux" and sys.maxsize > 2**32:
    #: Whether each call can say for itself whether it may wait, and SO_RCVTIMEO is two longs, of 64 bits each.
    _CAN_WAIT_IN_RECV = True
    _DONT_WAIT = int(socket.MSG_DONTWAIT)
else:
    _CAN_WAIT_IN_RECV = False
    _DONT_WAIT = 0


#: Linux alone can be told to acknowledge at once. The option does not last: it has to be set again and again.
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)

#: Windows has no poll(), and gevent takes it away.
_HAS_POLL: bool = hasattr(select, "poll")


class WouldBlock(Exception):  # noqa: N818 - not an error
    """Nothing can be read or written just now.

    Attributes:
        want_write: whether the socket must become writable before the operation can go on, else readable.
    """

    def __init__(self, want_write: bool) -> None:
        super().__init__()
        self.want_write = want_write


class ByteStream:
    """A connected socket as a stream of bytes. Reads from one thread at a time, writes from one at a time.

    The thread that reads is one of the library's, in which no signal handler runs. A thread that writes may be
    any: what a signal handler raises there passes as it is.

    Attributes:
        is_tls: whether the bytes are encrypted.
        last_taken: when the peer last took something that had to wait for room, by ``time.monotonic``: a sign of
            life. (A write that goes into the system's buffer at once is none.)
    """

    def __init__(self, sock: socket.socket | TlsSocket) -> None:
        self.last_taken = float("-inf")
        self._socket = sock
        self.is_tls = isinstance(sock, TlsSocket)
        # The same socket, as long as recv_waiting() can leave the waiting to the system's recv().
        self._blocking = sock if _CAN_WAIT_IN_RECV and not isinstance(sock, TlsSocket) else None
        self._recv_limit: float | None = None
        sock.setblocking(self._blocking is not None)
        # On a single processor a peer on the same machine could do nothing while this spins.
        self._can_spin = self._blocking is not None and _count_processors() > 1
        # Made once, for the most frequent wait: that of the reading thread.
        self._readable = _new_poller(sock, read=True, write=False)

    def recv_into(self, buffer: memoryview) -> int:
        """Read what is there, at most ``len(buffer)`` bytes. Never waits.

        Returns:
            How many bytes were read; 0 when the peer has ended the stream.

        Raises:
            WouldBlock: nothing is there.
            OSError: the connection is broken.
        """
        try:
            if self._blocking is not None:
                return self._blocking.recv_into(buffer, 0, _DONT_WAIT)
            return self._socket.recv_into(buffer)
        except BlockingIOError:
            raise WouldBlock(want_write=False) from None

    def recv_waiting(self, buffer: memoryview, timeout: float | None, spin: float = 0.0) -> int:
        """Read like :meth:`recv_into`, but wait until something is there, for about ``timeout`` seconds.

        Where the system's recv() does the waiting, that is one system call instead of two, and the interpreter
        lock is released and acquired once instead of twice: 5 to 10 us less between an answer and whoever waits
        for it. Measured by taking it out: without it a ping takes 1.2 times as long.

        Args:
            buffer: where to read to.
            timeout: in seconds; None is without limit.
            spin: for how many seconds to ask again and again before the thread goes to sleep, for data that must
                be about to come. That keeps a processor busy, so it is not done where there is only one.

        Raises:
            WouldBlock: nothing came in time.
            OSError: the connection is broken.
        """
        if self._blocking is None or (timeout is not None and timeout < _SLACK):
            self.wait(read=True, write=False, timeout=timeout)
            return self.recv_into(buffer)
        if spin and self._can_spin:
            until = monotonic() + spin
            while monotonic() < until:
                try:
                    return self._blocking.recv_into(buffer, 0, _DONT_WAIT)
                except BlockingIOError:
                    pass
        limit = self._recv_limit
        if limit != timeout and not (limit and timeout and limit - _SLACK <= timeout <= limit):
            self._recv_limit = limit = timeout and timeout + _SLACK / 2
            microseconds = int((limit or 0) * 1_000_000)  # 0 is without limit
            option = struct.pack("@ll", *divmod(microseconds, 1_000_000))
            try:
                self._blocking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, option)
            except OSError:  # this kernel does not know the option, which only saves a system call
                self._blocking = None
                self._socket.setblocking(False)
                self.wait(read=True, write=False, timeout=timeout)
                return self.recv_into(buffer)
        try:
            return self._blocking.recv_into(buffer)
        except BlockingIOError:
            raise WouldBlock(want_write=False) from None

    def send(self, data: memoryview) -> int:
        """Write as much of ``data`` as fits into the socket's buffer. Never waits.

        After :exc:`WouldBlock` the next call must begin with the same bytes: a part of them may be encrypted.

        Returns:
            How many bytes were written.

        Raises:
            WouldBlock: nothing fits.
            OSError: the connection is broken.
        """
        try:
            blocking = self._blocking  # the reading thread may set it to None meanwhile
            if blocking is not None:
                return blocking.send(data, _DONT_WAIT)
            return self._socket.send(data)
        except BlockingIOError as error:
            if is_from_signal_handler(error):
                raise
            raise WouldBlock(want_write=True) from None

    def acknowledge_at_once(self) -> None:
        """Acknowledge what has come now, rather than up to 40 ms later. Does nothing where the system can't."""
        if _QUICK_ACK is None:
            return
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        except OSError:  # no TCP, or the connection is broken: then the next read tells
            pass

    def wait(self, *, read: bool, write: bool, timeout: float | None) -> None:
        """Block until the socket is ready for reading or writing, as asked, or for ``timeout`` seconds."""
        poller = self._readable if read and not write else _new_poller(self._socket, read=read, write=write)
        poller.poll(None if timeout is None else max(0.0, timeout) * 1000)

    def send_all(self, data: memoryview, deadline: float | None) -> memoryview:
        """Write ``data``. Blocks while there is no room, until ``deadline`` (a value of ``time.monotonic``).

        Returns:
            The part of ``data`` that could not be written in time: empty if all went well.

        Raises:
            OSError: the connection is broken.
        """
        waited = False
        while data:
            try:
                data = data[self.send(data) :]
                if waited:
                    self.last_taken = monotonic()
                    waited = False
            except WouldBlock:
                waited = True
                remaining = None if deadline is None else deadline - monotonic()
                if remaining is not None and remaining <= 0:
                    break
                self.wait(read=False, write=True, timeout=remaining)
        return data

    def unanswered_for(self) -> float:
        """See :func:`~pie_sync._transport.keep_alive.unanswered_for`."""
        return unanswered_for(self._socket)

    def shut_down(self) -> None:
        """End both directions at once. Wakes a thread that is waiting on the socket. Never blocks or fails."""
        shut_down(self._socket)

    def close(self) -> None:
        """Give the file descriptor back. Only when no other thread uses the socket any more."""
        self._socket.close()


def _count_processors() -> int:
    """Return on how many processors this process may run."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    else:  # noqa: RET505 - so that mypy knows which branch is for which system
        return os.cpu_count() or 1


class _Poller(Protocol):
    def poll(self, timeout: float | None, /) -> object:
        """Block until the socket is ready, or for so many milliseconds."""


def _new_poller(sock: socket.socket | TlsSocket, *, read: bool, write: bool) -> _Poller:
    """Return what waits until a socket is readable, writable or either."""
    if sys.platform != "win32" and _HAS_POLL:
        poller = select.poll()
        poller.register(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        return poller
    return _SelectPoller(sock, read=read, write=write)


class _SelectPoller:
    """``select()`` with the interface of ``poll()``, for systems that have no ``poll()``."""

    def __init__(self, sock: socket.socket | TlsSocket, *, read: bool, write: bool) -> None:
        self._read = [sock] if read else []
        self._write = [sock] if write else []

    def poll(self, timeout: float | None, /) -> None:
        """Block until the socket is ready, or for so many milliseconds."""
        select.select(self._read, self._write, [], None if timeout is None else timeout / 1000)
