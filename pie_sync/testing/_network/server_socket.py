"""Sockets that treat frames as the servers of each generation do, beside what the library ``websockets`` does."""

from __future__ import annotations

import socket
import threading
from typing import Any, Callable, NamedTuple

from .frame_scanner import FrameScanner, Stop, close_frame
from .tls import TlsSocket

__all__ = ["Inconvenience", "ServerSocket", "shut_down"]

READ_SIZE = 65536
FAREWELL_TIMEOUT = 1.0  # seconds
CLOSE_WITHOUT_STATUS = b"\x88\0"


class Inconvenience(NamedTuple):
    """What servers do that is inconvenient for their clients."""

    max_frame_size: int
    """Bytes of payload that one frame may have."""
    goes_deaf: bool
    """What follows a frame or a message that is too large: nothing is read any more; else a close frame."""
    leaks: bool
    """Whether a close frame is answered only if something is written after it, and the socket kept open if not."""


class ServerSocket:
    """The server's end of a connection, with the methods of a socket that a WebSocket server calls.

    Args:
        plain: the accepted TCP connection.
        tls: TLS over that connection, if it is encrypted.
        inconvenience: what the server does.
        on_leak: called with the TCP connection when it is leaked: the client is gone, and it stays open.
    """

    def __init__(
        self,
        plain: socket.socket,
        tls: TlsSocket | None,
        inconvenience: Inconvenience,
        on_leak: Callable[[socket.socket], None],
    ) -> None:
        self._plain = plain
        self._socket = tls or plain
        self._inconvenience = inconvenience
        self._on_leak = on_leak
        self._scanner = FrameScanner(inconvenience.max_frame_size, stop_at_close=inconvenience.leaks)
        self._is_deaf = False
        self._aborted = threading.Event()
        self._leaked = False
        # The answer to a close frame, which is written after something else; empty once it is written.
        self._farewell: bytes | None = None
        # Guards the two above.
        self._lock = threading.Lock()
        # Held while something is written, so that a close frame is not put into the middle of another frame.
        self._send_lock = threading.Lock()

    def recv(self, _size: int) -> bytes:
        """Return bytes that the server reads; block until there are some. Empty at the end of the connection."""
        while True:
            data = b"" if self._is_deaf and self._aborted.wait() else self._socket.recv(READ_SIZE)
            if not data:
                self._leak_if_unanswered()
                return b""
            if self._farewell is not None:
                continue  # nothing may follow a close frame
            size, stop = self._scanner.scan(data)
            if stop is Stop.TOO_LARGE:
                self._refuse()
            elif stop is Stop.CLOSE_FRAME:
                with self._lock:
                    self._farewell = close_frame(data[size:])
            if size:
                return data[:size]

    def sendall(self, data: bytes) -> None:
        """See :meth:`socket.socket.sendall`."""
        with self._send_lock:
            with self._lock:
                farewell = None if self._leaked else self._farewell
                if farewell:
                    self._farewell = b""
            if not farewell:
                self._socket.sendall(data)
                return
            self._socket.sendall(data + farewell)
            shut_down(self._socket)

    def shutdown(self, how: int) -> None:
        """See :meth:`socket.socket.shutdown`."""
        if not self._leaked:
            self._socket.shutdown(how)

    def close(self) -> None:
        """Close the connection, unless it is leaked. ``recv`` in another thread returns or raises at once."""
        self._aborted.set()
        if self._leaked:
            return
        shut_down(self._plain)
        self._socket.close()

    def abort(self) -> None:
        """Close the TCP connection without a close frame. Calls that wait for it, in any thread, end at once."""
        self._aborted.set()
        shut_down(self._plain)

    def settimeout(self, timeout: float | None) -> None:
        """See :meth:`socket.socket.settimeout`."""
        self._socket.settimeout(timeout)

    def fileno(self) -> int:
        """See :meth:`socket.socket.fileno`."""
        return self._socket.fileno()

    def getsockname(self) -> Any:
        """See :meth:`socket.socket.getsockname`."""
        return self._socket.getsockname()

    def getpeername(self) -> Any:
        """See :meth:`socket.socket.getpeername`."""
        return self._socket.getpeername()

    def _refuse(self) -> None:
        """Go deaf, or hang up. The client may still be sending, so that it must be read to see the close frame."""
        self._is_deaf = True
        if self._inconvenience.goes_deaf:
            return
        if self._send_lock.acquire(timeout=FAREWELL_TIMEOUT):
            try:
                self._socket.sendall(CLOSE_WITHOUT_STATUS)
                self._plain.shutdown(socket.SHUT_WR)
                self._plain.settimeout(FAREWELL_TIMEOUT)
                while self._plain.recv(READ_SIZE):
                    pass
            except OSError:
                pass
            finally:
                self._send_lock.release()
        self.abort()

    def _leak_if_unanswered(self) -> None:
        with self._lock:
            if not self._farewell or self._aborted.is_set():
                return
            self._leaked = True
        self._on_leak(self._plain)


def shut_down(sock: socket.socket | TlsSocket) -> None:
    """End both directions of a connection."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the connection has ended already
