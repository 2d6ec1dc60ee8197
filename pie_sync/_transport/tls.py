"""TLS over a socket, for one thread that reads while another writes.

OpenSSL has one state for both directions. Two threads inside of it at once corrupt that state, which shows as
broken connections under load. So every call into OpenSSL holds a lock, and nothing *waits* while holding the lock.

OpenSSL never sees the socket: it reads and writes memory (``ssl.MemoryBIO``). An ``ssl.SSLSocket`` that finds no
room for a record keeps the rest of the record inside. If the peer then asks for new keys (RFC 8446 section 4.6.3),
the answer and that rest get mixed up, and the next read fails with "bad length".
"""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Callable

from .._support.signal_handlers import is_from_signal_handler

__all__ = ["TlsSocket"]

#: The most that is encrypted at once: one TLS record. It bounds how long the lock is held.
_RECORD_SIZE = 16 * 1024

#: How many bytes are read from the socket at once: a handful of records.
_READ_SIZE = 128 * 1024


class TlsSocket:
    """The client's end of a TLS connection, with those methods of a socket that this package calls.

    The methods block if the socket below blocks. If it doesn't, one thread may read while another writes.

    Args:
        sock: a connected socket.
        context: what certificates to accept.
        host: the name that the server's certificate must be for.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        # Serialises all calls into OpenSSL. Guards the two attributes below as well.
        self._lock = threading.Lock()
        # Encrypted bytes that are not in the socket yet.
        self._unsent = b""
        # How many bytes of a caller of send() they contain whom send() has not told so yet.
        self._taken = 0

    def do_handshake(self, limit: Callable[[], None]) -> None:
        """Do the TLS handshake. Call this first.

        Args:
            limit: called before each wait; sets the socket's time limit, or raises what ends the handshake.

        Raises:
            OSError: the handshake failed, or the connection is broken.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                limit()
                self._flush()
                self._receive()
            except ssl.SSLError:
                self._flush_quietly()  # tell the server what is wrong
                raise
            else:
                limit()
                self._flush()
                return

    def recv_into(self, buffer: memoryview) -> int:
        """Read what is there, at most ``len(buffer)`` bytes; 0 at the end of the stream.

        Raises:
            BlockingIOError: nothing is there.
            OSError: the connection is broken.
        """
        # One read of OpenSSL's gives one record. Take all that are there: large batches make parsing cheap.
        count = 0
        while count < len(buffer):
            try:
                with self._lock:
                    read = self._read(buffer[count:], may_wait=count == 0)
            except OSError as error:
                if count and not is_from_signal_handler(error):
                    break  # return what arrived before the error; the next call gets the error again
                raise
            if read == 0:
                break
            count += read
        return count

    def _read(self, buffer: memoryview, *, may_wait: bool) -> int:
        while True:
            try:
                # (With a buffer it returns a number, of which typeshed knows nothing.)
                read: int = self._tls.read(len(buffer), buffer)  # type: ignore[assignment]
            except ssl.SSLWantReadError:
                if not may_wait and self._socket.gettimeout() != 0:
                    return 0
                self._receive()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0
            except ssl.SSLError:
                self._flush_quietly()
                raise
            else:
                self._flush_quietly()  # the answer to new keys
                return read

    def recv(self, size: int) -> bytes:
        """Read at most ``size`` bytes; none at the end of the stream."""
        buffer = bytearray(size)
        return bytes(buffer[: self.recv_into(memoryview(buffer))])

    def send(self, data: bytes | memoryview) -> int:
        """Write as much of ``data`` as fits into a record. Returns how many bytes when they are in the socket.

        Raises:
            BlockingIOError: they are not. The next call must begin with the same bytes: some of them may have
                been sent.
            OSError: the connection is broken.
        """
        with self._lock:
            if self._taken == 0:
                self._flush()
                self._taken = self._tls.write(memoryview(data)[:_RECORD_SIZE])
            self._flush()
            taken, self._taken = self._taken, 0
            return taken

    def _receive(self) -> None:
        data = self._socket.recv(_READ_SIZE)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        """Hand everything that is encrypted to the socket."""
        self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]

    def _flush_quietly(self) -> None:
        try:
            self._flush()
        except OSError as error:
            # No room: then it goes out with what is written next. Or no connection, which others find out.
            if is_from_signal_handler(error):
                raise

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._socket.fileno()

    def setblocking(self, blocking: bool) -> None:
        """See :meth:`socket.socket.setblocking`."""
        self._socket.setblocking(blocking)

    def gettimeout(self) -> float | None:
        """See :meth:`socket.socket.gettimeout`."""
        return self._socket.gettimeout()

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """See :meth:`socket.socket.setsockopt`."""
        self._socket.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """See :meth:`socket.socket.getsockopt`."""
        return self._socket.getsockopt(level, option, size)

    def shutdown(self, how: int) -> None:
        """End one direction of the socket, or both, without a farewell of TLS. Never waits."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close the socket, without a farewell of TLS."""
        self._socket.close()
