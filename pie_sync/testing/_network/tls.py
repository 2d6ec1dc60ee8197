"""TLS for a connection that one thread reads while another thread writes.

Two threads must not use an :class:`ssl.SSLSocket` at once. This module keeps the TLS state apart from the
socket: a lock guards the state, and no thread holds the lock while it waits for the network.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import Any

__all__ = ["TlsSocket"]

RECORD_HEADER_SIZE = 5
READ_SIZE = 65536
WRITE_SIZE = 65536


class TlsSocket:
    """The server's end of a TLS connection, with the methods of a socket that a WebSocket server calls.

    Args:
        sock: the accepted TCP connection.
        context: a server-side context.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        # Whether the client has ended the TLS connection, or broken it.
        self._ended = False
        # Guards the four above; never held while waiting for the network.
        self._state_lock = threading.Lock()
        # Keeps the records on the wire in the order in which they were encrypted. Taken before _state_lock.
        self._send_lock = threading.Lock()

    def do_handshake(self, timeout: float) -> None:
        """Do the TLS handshake. Call this before any other method. Blocks for ``timeout`` seconds at most.

        Raises:
            OSError: the handshake failed (:class:`ssl.SSLError`), took too long, or the connection was lost.
        """
        deadline = time.monotonic() + timeout
        # Read record by record: bytes after the handshake must stay in the socket, where a poll of the socket
        # sees them. OpenSSL gets each header first, so that it refuses plain text without waiting for a body.
        body_size = 0
        try:
            while not self._advance_handshake():
                self._flush_handshake(deadline)
                part = self._receive_exactly(body_size or RECORD_HEADER_SIZE, deadline)
                self._incoming.write(part)
                body_size = 0 if body_size else int.from_bytes(part[3:], "big")
        finally:
            self._flush_handshake(deadline)
        self._socket.settimeout(None)

    def recv(self, _size: int) -> bytes:
        """Return everything that can be decrypted; block until that is at least one byte. Empty at the end.

        The size is ignored: a poll of the socket would not see bytes that stay behind in the TLS state.
        """
        while not self._ended:
            data = self._socket.recv(READ_SIZE)
            with self._state_lock:
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
                plain = self._decrypt()
            if plain:
                return plain
        return b""

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``; block until the kernel has taken it."""
        view = memoryview(data)
        with self._send_lock:
            for start in range(0, len(view), WRITE_SIZE):
                with self._state_lock:
                    self._tls.write(view[start : start + WRITE_SIZE])
                    records = self._outgoing.read()
                self._socket.sendall(records)

    def shutdown(self, how: int) -> None:
        """End sending, which a TLS close_notify announces; with ``SHUT_RDWR`` receiving, too."""
        with self._send_lock:
            with self._state_lock:
                try:
                    self._tls.unwrap()
                except ssl.SSLError:
                    pass  # OpenSSL wants to wait for the client's close_notify; the server does not
                records = self._outgoing.read()
            self._socket.sendall(records)
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close the socket; ``recv`` and ``sendall`` in other threads return or raise at once."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

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

    def _decrypt(self) -> bytes:
        """Return everything that can be decrypted. Takes note of the end, which may come in the same read."""
        parts: list[bytes] = []
        try:
            while part := self._tls.read(READ_SIZE):
                parts.append(part)
            self._ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            # A broken record, or an end without close_notify. What was decrypted before is valid.
            self._ended = True
        return b"".join(parts)

    def _advance_handshake(self) -> bool:
        """Return whether the handshake is done; False when it needs more bytes from the client."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _flush_handshake(self, deadline: float) -> None:
        records = self._outgoing.read()
        if records:
            self._set_deadline(deadline)
            self._socket.sendall(records)

    def _receive_exactly(self, size: int, deadline: float) -> bytes:
        data = b""
        while len(data) < size:
            self._set_deadline(deadline)
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionResetError("connection closed during the TLS handshake")
            data += part
        return data

    def _set_deadline(self, deadline: float) -> None:
        # A timeout of zero would make the socket non-blocking.
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
