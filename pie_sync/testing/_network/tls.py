"""TLS for a connection that one thread reads while another writes.

:class:`ssl.SSLSocket` must not be used by two threads at once. Here the TLS state is apart from the socket: a
lock guards the state, and is never held while waiting for the network.
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
    """The server's end of a TLS connection, with those methods of a socket that a WebSocket server calls."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        # Guards the three above; held for computations only.
        self._state_lock = threading.Lock()
        # Puts records on the wire in the order in which they were made. Taken before the state's lock.
        self._send_lock = threading.Lock()

    def do_handshake(self, timeout: float) -> None:
        """Agree with the client on the keys, before any other method is called.

        Raises:
            OSError: no agreement (:class:`ssl.SSLError`), none within ``timeout`` seconds, or no connection.
        """
        deadline = time.monotonic() + timeout
        # Record by record: what follows the handshake must stay in the socket, where whoever polls for it
        # finds it. The header goes in first, so that what is no TLS at all is refused without waiting.
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
        """Return what is there, waiting for at least one byte; empty at the end.

        Everything that can be decrypted is returned, even when it is more than was asked for: a poll of the
        socket would not know of the rest.
        """
        while True:
            data = self._socket.recv(READ_SIZE)
            with self._state_lock:
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
                plain, ended = self._decrypt()
            if plain or ended:
                return plain

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``."""
        view = memoryview(data)
        with self._send_lock:
            for start in range(0, len(view), WRITE_SIZE):
                with self._state_lock:
                    self._tls.write(view[start : start + WRITE_SIZE])
                    records = self._outgoing.read()
                self._socket.sendall(records)

    def shutdown(self, how: int) -> None:
        """End one direction or both, telling the client that nothing was cut off."""
        if how != socket.SHUT_RD:
            with self._send_lock:
                with self._state_lock:
                    try:
                        self._tls.unwrap()
                    except ssl.SSLError:
                        pass  # it wants the client's farewell, which nobody waits for
                    records = self._outgoing.read()
                self._socket.sendall(records)
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close the socket; a waiting ``recv`` or ``sendall`` ends."""
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

    def _decrypt(self) -> tuple[bytes, bool]:
        parts: list[bytes] = []
        try:
            while True:
                part = self._tls.read(READ_SIZE)
                if not part:
                    return b"".join(parts), True
                parts.append(part)
        except ssl.SSLWantReadError:
            return b"".join(parts), False
        except ssl.SSLError:
            # A fault or an end without a farewell; what came before it is sound.
            return b"".join(parts), True

    def _advance_handshake(self) -> bool:
        """Return whether the handshake is done; False when it needs more of the client's."""
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
        # Zero would make the socket non-blocking.
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
