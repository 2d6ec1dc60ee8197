"""Bytes over one connected socket, read by one thread while others write.

A plain socket allows that by itself. An ``ssl.SSLSocket`` does not: OpenSSL keeps one state for both
directions, and two threads inside it at once corrupt it, which shows as broken connections under load. So over
TLS every read and write holds one lock, and nothing ever *waits* while holding it: the socket is non-blocking
and readiness is awaited outside.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import AbstractContextManager, nullcontext
from time import monotonic
from typing import Any

from ._dial import shut_down

__all__ = ["Duplex", "WouldBlock"]

#: The most that one write hands to OpenSSL: one TLS record. It bounds how long the lock is held.
_TLS_WRITE_SIZE = 16 * 1024

#: A writer of TLS may have to wait for input which the reading thread takes before this one sees it. So it
#: looks again after this many seconds, whatever happens.
_CROSSED_WAIT = 0.05


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

    def __init__(self, sock: socket.socket) -> None:
        self.last_taken = float("-inf")
        sock.setblocking(False)
        self._socket = sock
        self.is_tls = isinstance(sock, ssl.SSLSocket)
        # Serialises everything that enters OpenSSL. Held for microseconds, never while waiting.
        self._lock: AbstractContextManager[Any] = threading.Lock() if self.is_tls else nullcontext()

    def recv_into(self, buffer: memoryview) -> int:
        """Read what is there, at most ``len(buffer)`` bytes.

        Returns:
            How many bytes were read; 0 when the peer has ended the stream.

        Raises:
            WouldBlock: nothing is there.
            OSError: the connection is broken.
        """
        if not self.is_tls:
            try:
                return self._socket.recv_into(buffer)
            except BlockingIOError:
                raise WouldBlock(want_write=False) from None
        return self._recv_records_into(buffer)

    def _recv_records_into(self, buffer: memoryview) -> int:
        # One read gives one record of at most 16 KiB. Take all that there are: it's the batch that makes the
        # rest of the reading cheap.
        count = 0
        while count < len(buffer):
            try:
                with self._lock:
                    read = self._socket.recv_into(buffer[count:])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as blocked:
                if count:
                    break
                raise WouldBlock(isinstance(blocked, ssl.SSLWantWriteError)) from None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                break
            except OSError:
                if count:
                    break  # what arrived before comes first; the next call finds out again
                raise
            if read == 0:
                break
            count += read
        return count

    def send(self, data: memoryview) -> int:
        """Write as much of ``data`` as fits into the socket's buffer.

        After :exc:`WouldBlock` the next call must begin with the same bytes: OpenSSL may have taken a part.

        Returns:
            How many bytes were written.

        Raises:
            WouldBlock: nothing fits.
            OSError: the connection is broken.
        """
        try:
            if not self.is_tls:
                return self._socket.send(data)
            with self._lock:
                return self._socket.send(data[:_TLS_WRITE_SIZE])
        except (BlockingIOError, ssl.SSLWantWriteError):
            raise WouldBlock(want_write=True) from None
        except ssl.SSLWantReadError:
            raise WouldBlock(want_write=False) from None

    def wait(self, *, read: bool, write: bool, timeout: float | None) -> None:
        """Block until the socket is ready for reading or writing, as asked, or ``timeout`` seconds are over."""
        if hasattr(select, "poll"):
            poller = select.poll()
            poller.register(self._socket, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
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
            except WouldBlock as blocked:
                waited = blocked.want_write
                remaining = None if deadline is None else deadline - monotonic()
                if remaining is not None and remaining <= 0:
                    break
                if not blocked.want_write:
                    remaining = _CROSSED_WAIT if remaining is None else min(remaining, _CROSSED_WAIT)
                self.wait(read=not blocked.want_write, write=blocked.want_write, timeout=remaining)
        return data

    def shut_down(self) -> None:
        """End both directions at once. Wakes a thread that is waiting on the socket. Never blocks or fails."""
        shut_down(self._socket)

    def close(self) -> None:
        """Give the file descriptor back. Only when no other thread uses the socket any more."""
        self._socket.close()
