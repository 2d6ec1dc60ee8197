"""The way to a server: TCP, an HTTP proxy where the environment names one, TLS.

websocket-client could do this, too, but it can't be told to stop: its time limits are for each operation, so a
peer that sends a byte now and then holds it for ever, and nobody else knows the socket while it's at it. Here
all of it has one deadline, and :meth:`Dialer.abort` ends it at any moment.
"""

from __future__ import annotations

import base64
import socket
import ssl
from time import monotonic
from urllib.parse import urlsplit

from websocket._url import get_proxy_info  # which proxy is for which host: as websocket-client documents it

from ._tls import TlsSocket

__all__ = ["Dialer", "shut_down"]

#: What a proxy may say before it lets the bytes through.
_MAX_PROXY_ANSWER = 64 * 1024

#: What the system may hold unsent. More than a chunk or two would only keep pings and pongs waiting behind it.
_UNSENT = 128 * 1024

_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A peer that vanished is noticed by the system, too, after about a minute.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (
            ("TCP_KEEPIDLE", 30),
            ("TCP_KEEPINTVL", 10),
            ("TCP_KEEPCNT", 3),
            ("TCP_NOTSENT_LOWAT", _UNSENT),
        )
        if hasattr(socket, name)  # not every system has them
    ),
]


class Dialer:
    """Makes one connection, in one thread. :meth:`abort` may be called from any other."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._aborted = False

    def dial(
        self, uri: str, *, deadline: float | None, ssl_context: ssl.SSLContext | None
    ) -> socket.socket | TlsSocket:
        """Connect, and return the socket, over which HTTP can begin.

        Args:
            uri: ``ws://`` or ``wss://``.
            deadline: until when, by ``time.monotonic``; None is without limit.
            ssl_context: for ``wss://``; None verifies certificate and host name against the system's authorities.

        Raises:
            socket.timeout: the deadline came first.
            OSError: it can't be made, or was aborted.
            ValueError: the URI makes no sense.
        """
        parts = urlsplit(uri)
        host = parts.hostname
        if not host:
            raise ValueError("there is no host in it")
        is_secure = parts.scheme == "wss"
        port = parts.port or (443 if is_secure else 80)
        proxy_host, proxy_port, proxy_login = get_proxy_info(host, is_secure)
        sock = self._connect(proxy_host or host, (proxy_port or 80) if proxy_host else port, deadline)
        try:
            if proxy_host:
                self._ask_proxy(sock, host, port, proxy_login, deadline)
            stream: socket.socket | TlsSocket = sock
            if is_secure:
                stream = TlsSocket(sock, ssl_context or ssl.create_default_context(), host)
                stream.do_handshake(lambda: self._limit(sock, deadline))
            self._limit(sock, deadline)
        except BaseException:
            sock.close()
            raise
        return stream

    def abort(self) -> None:
        """Make :meth:`dial` fail at once, also when it is called later; end the connection that it made."""
        self._aborted = True
        if self._socket is not None:
            shut_down(self._socket)

    def _limit(self, sock: socket.socket, deadline: float | None) -> None:
        """Before everything that waits: let it wait until the deadline at most."""
        self._socket = sock
        # After the socket became known: either abort() shuts it down, or it was called before and this sees it.
        if self._aborted:
            raise ConnectionAbortedError("connecting was given up")
        if deadline is None:
            sock.settimeout(None)
            return
        left = deadline - monotonic()
        if left <= 0:
            raise socket.timeout("timed out")  # TimeoutError, from Python 3.10 on
        sock.settimeout(left)

    def _connect(self, host: str, port: int, deadline: float | None) -> socket.socket:
        failure: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                for option in _SOCKET_OPTIONS:
                    sock.setsockopt(*option)
                self._limit(sock, deadline)
                sock.connect(address)
            except OSError as error:
                sock.close()
                if self._aborted or (deadline is not None and monotonic() >= deadline):
                    raise
                failure = failure or error  # of several addresses the first one is the one that should work
            else:
                return sock
        raise failure or OSError(f"{host} has no address")

    def _ask_proxy(
        self, sock: socket.socket, host: str, port: int, login: tuple[str, str] | None, deadline: float | None
    ) -> None:
        """Have an HTTP proxy pass everything on (RFC 9110 section 9.3.6)."""
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if login is not None:
            request += f"Proxy-Authorization: Basic {base64.b64encode(':'.join(login).encode()).decode()}\r\n"
        self._limit(sock, deadline)
        sock.sendall(f"{request}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            self._limit(sock, deadline)
            data = sock.recv(4096)
            answer += data
            if not data or len(answer) > _MAX_PROXY_ANSWER:
                raise OSError("the HTTP proxy gives no answer to CONNECT")
        status_line = answer.split(b"\r\n", 1)[0].decode(errors="replace")
        # Whoever is behind it speaks only when spoken to, so nothing can follow the answer yet.
        if not status_line.startswith("HTTP/1.") or status_line.split()[1:2] != ["200"]:
            raise OSError(f"the HTTP proxy refuses: {status_line[:200]}")


def shut_down(sock: socket.socket | TlsSocket) -> None:
    """End both directions of a socket, whatever other threads do with it. Never blocks or fails."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it's gone already
