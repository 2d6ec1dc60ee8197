"""Bytes over one connected socket, read by one thread while others write. What can wait takes a time limit."""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from time import monotonic

from .dialer import shut_down
from .tls import TlsSocket

__all__ = ["ByteStream", "WouldBlock"]

#: By how many seconds recv_waiting() may wait too long, so that the system need not be told a new limit each time.
_SLACK = 0.01

#: Whether each call can say for itself whether it may wait, and SO_RCVTIMEO is two longs: on Linux, of 64 bits.
_CAN_WAIT_IN_RECV = sys.platform == "linux" and sys.maxsize > 2**32


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

    Attributes:
        last_taken: when the peer last took something that had to wait for it, by ``time.monotonic``: a sign of
            life, where a write that goes into the system's buffer at once is none.
    """

    def __init__(self, sock: socket.socket | TlsSocket) -> None:
        self.last_taken = float("-inf")
        self._socket = sock
        self.is_tls = isinstance(sock, TlsSocket)
        self._blocking = sock if _CAN_WAIT_IN_RECV and not isinstance(sock, TlsSocket) else None
        self._recv_limit: float | None = None
        sock.setblocking(self._blocking is not None)
        # On a single processor the peer, if it's there as well, could do nothing while this spins.
        self._can_spin = self._blocking is not None and len(os.sched_getaffinity(0)) > 1
        # For the wait that there is most, of the one thread that reads.
        self._readable = _poller(sock, read=True, write=False) if hasattr(select, "poll") else None

    def recv_into(self, buffer: memoryview) -> int:
        """Read what is there, at most ``len(buffer)`` bytes.

        Returns:
            How many bytes were read; 0 when the peer has ended the stream.

        Raises:
            WouldBlock: nothing is there.
            OSError: the connection is broken.
        """
        try:
            if self._blocking is not None:
                return self._blocking.recv_into(buffer, 0, socket.MSG_DONTWAIT)
            return self._socket.recv_into(buffer)
        except BlockingIOError:
            raise WouldBlock(want_write=False) from None

    def recv_waiting(self, buffer: memoryview, timeout: float | None, spin: float = 0.0) -> int:
        """Read like :meth:`recv_into`, but wait until something is there, for about ``timeout`` seconds.

        That is one system call instead of two, and the interpreter lock is given back and taken once instead of
        twice: 5 to 10 us less between an answer and whoever waits for it.

        Args:
            buffer: where to read to.
            timeout: None is without limit.
            spin: for how many seconds to ask again and again before the thread is put to sleep. For what must be
                about to come: it keeps a processor busy, where there is more than one.

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
                    return self._blocking.recv_into(buffer, 0, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    pass
        limit = self._recv_limit
        if limit != timeout and not (limit and timeout and limit - _SLACK <= timeout <= limit):
            self._recv_limit = limit = timeout and timeout + _SLACK / 2
            microseconds = int((limit or 0) * 1_000_000)  # 0 is without limit
            option = struct.pack("@ll", *divmod(microseconds, 1_000_000))
            try:
                self._blocking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, option)
            except OSError:  # this kernel does not know it, though it saves only a system call
                self._blocking = None
                self._socket.setblocking(False)
                self.wait(read=True, write=False, timeout=timeout)
                return self.recv_into(buffer)
        try:
            return self._blocking.recv_into(buffer)
        except BlockingIOError:
            raise WouldBlock(want_write=False) from None

    def send(self, data: memoryview) -> int:
        """Write as much of ``data`` as fits into the socket's buffer.

        After :exc:`WouldBlock` the next call must begin with the same bytes: a part of them may be encrypted.

        Returns:
            How many bytes were written.

        Raises:
            WouldBlock: nothing fits.
            OSError: the connection is broken.
        """
        try:
            blocking = self._blocking  # the reader may give it up meanwhile
            if blocking is not None:
                return blocking.send(data, socket.MSG_DONTWAIT)
            return self._socket.send(data)
        except BlockingIOError:
            raise WouldBlock(want_write=True) from None

    def wait(self, *, read: bool, write: bool, timeout: float | None) -> None:
        """Block until the socket is ready for reading or writing, as asked, or ``timeout`` seconds are over."""
        if self._readable is not None:
            poller = self._readable if read and not write else _poller(self._socket, read=read, write=write)
            poller.poll(None if timeout is None else max(0.0, timeout) * 1000)
        else:  # Windows
            sockets = [self._socket]
            select.select(sockets if read else [], sockets if write else [], [], timeout)

    def send_all(self, data: memoryview, deadline: float | None) -> memoryview:
        """Write ``data``, waiting for room until ``deadline`` (a value of ``time.monotonic``).

        Returns:
            What could not be written in time: empty if all went well.

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

    def shut_down(self) -> None:
        """End both directions at once. Wakes a thread that is waiting on the socket. Never blocks or fails."""
        shut_down(self._socket)

    def close(self) -> None:
        """Give the file descriptor back. Only when no other thread uses the socket any more."""
        self._socket.close()


def _poller(sock: socket.socket | TlsSocket, *, read: bool, write: bool) -> select.poll:
    poller = select.poll()
    poller.register(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
    return poller
