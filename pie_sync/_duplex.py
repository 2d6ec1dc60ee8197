"""Bytes over one connected socket, read by one thread while others write. Only :meth:`Duplex.wait` waits."""

from __future__ import annotations

import select
from time import monotonic
from typing import TYPE_CHECKING

from ._dial import shut_down
from ._tls import TlsSocket

if TYPE_CHECKING:
    import socket

__all__ = ["Duplex", "WouldBlock"]


class WouldBlock(Exception):  # noqa: N818 - not an error
    """Nothing can be read or written just now.

    Attributes:
        want_write: whether the socket must become writable before the operation can go on, else readable.
    """

    def __init__(self, want_write: bool) -> None:
        super().__init__()
        self.want_write = want_write


class Duplex:
    """A connected socket as a duplex of bytes. Reads from one thread at a time, writes from one at a time.

    Attributes:
        last_taken: when the peer last took something that had to wait for it, by ``time.monotonic``: a sign of
            life, where a write that goes into the system's buffer at once is none.
    """

    def __init__(self, sock: socket.socket | TlsSocket) -> None:
        self.last_taken = float("-inf")
        sock.setblocking(False)
        self._socket = sock
        self.is_tls = isinstance(sock, TlsSocket)
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
            return self._socket.recv_into(buffer)
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
