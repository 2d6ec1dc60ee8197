"""The server's end of TLS, made with OpenSSL itself, for operations that Python's ssl module does not offer.

The terminator decrypts what a client sends, forwards it to a server without TLS, and encrypts the answers. Between
records it requests new keys (RFC 8446 section 4.6.3) and sends session tickets (section 4.6.1).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import select
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PEM = 1
_WANT_READ, _WANT_WRITE = 2, 3
_UPDATE_REQUESTED = 1
_RECORD = 16384


def _load_library() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("ssl")
    if name is None:
        return None
    library = ctypes.CDLL(name)
    if not hasattr(library, "SSL_new_session_ticket"):  # since OpenSSL 3.0
        return None
    for function in ("TLS_server_method", "SSL_CTX_new", "SSL_new"):
        getattr(library, function).restype = ctypes.c_void_p
    return library


libssl = _load_library()


class TlsTerminator:
    """Serves each connection in a thread of its own.

    Args:
        uri: the URI of the server without TLS.
        certificate: a file with a private key and a certificate chain, in PEM.
        every: after how many records the next key update or ticket is due, alternately.

    Attributes:
        key_updates: the number of key updates.
        tickets: the number of tickets sent after the handshake.
    """

    def __init__(self, uri: str, certificate: Path, every: int) -> None:
        assert libssl is not None
        parts = urlsplit(uri)
        self._server = (parts.hostname, parts.port)
        self._every = every
        self._records = self.key_updates = self.tickets = 0
        self._context = ctypes.c_void_p(libssl.SSL_CTX_new(ctypes.c_void_p(libssl.TLS_server_method())))
        name = str(certificate).encode()
        assert libssl.SSL_CTX_use_PrivateKey_file(self._context, name, _PEM) == 1
        assert libssl.SSL_CTX_use_certificate_chain_file(self._context, name) == 1
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"wss://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="TLS terminator")]
        self._threads[0].start()

    def stop(self) -> None:
        for sock in (self._listener, *self._sockets):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(10)
        self._listener.close()
        libssl.SSL_CTX_free(self._context)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            self._threads.append(
                threading.Thread(target=self._serve, args=(client, server), name="TLS terminator")
            )
            self._threads[-1].start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        tls = ctypes.c_void_p(libssl.SSL_new(self._context))
        with client, server:
            try:
                libssl.SSL_set_fd(tls, client.fileno())
                if libssl.SSL_accept(tls) == 1:
                    client.setblocking(False)
                    server.setblocking(False)
                    self._relay(tls, client, server)
            except OSError:
                pass
            finally:
                libssl.SSL_free(tls)

    def _relay(self, tls: ctypes.c_void_p, client: socket.socket, server: socket.socket) -> None:
        """Relay both directions in one thread, as OpenSSL requires, and never wait for just one of them."""
        buffer = ctypes.create_string_buffer(_RECORD)
        up = down = b""
        while True:
            readers = ([] if up else [client]) + ([] if down else [server])
            writers = ([server] if up else []) + ([client] if down else [])
            select.select(readers, writers, [], 0 if not up and libssl.SSL_pending(tls) else 60)
            if up:
                up = up[self._send(server, up) :]
            else:
                count = self._do(tls, libssl.SSL_read, buffer, _RECORD)
                up = buffer.raw[:count]
            if down:
                if self._do(tls, libssl.SSL_write, down, len(down)):
                    down = b""
                    self._renew(tls)
            elif select.select([server], [], [], 0)[0]:
                down = server.recv(_RECORD)
                if not down:
                    return

    def _do(self, tls: ctypes.c_void_p, operation: Any, *arguments: Any) -> int:
        """Read or write: return the number of bytes, 0 if the operation would block."""
        libssl.ERR_clear_error()
        count = operation(tls, *arguments)
        if count > 0:
            return int(count)
        if libssl.SSL_get_error(tls, count) not in (_WANT_READ, _WANT_WRITE):
            raise OSError("the connection has ended")
        return 0

    def _send(self, server: socket.socket, data: bytes) -> int:
        try:
            return server.send(data)
        except BlockingIOError:
            return 0

    def _renew(self, tls: ctypes.c_void_p) -> None:
        """Request new keys in both directions, or send a ticket, if that is due. Both go with the next record."""
        self._records += 1
        if self._records % (2 * self._every) == 0:
            self.key_updates += libssl.SSL_key_update(tls, _UPDATE_REQUESTED) == 1
        elif self._records % self._every == 0:
            self.tickets += libssl.SSL_new_session_ticket(tls) == 1


@contextmanager
def tls_terminator(uri: str, certificate: Path, *, every: int) -> Iterator[TlsTerminator]:
    terminator = TlsTerminator(uri, certificate, every)
    try:
        yield terminator
    finally:
        terminator.stop()
