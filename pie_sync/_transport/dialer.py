"""The way to a server: TCP, an HTTP proxy where the environment names one, TLS.

websocket-client could do this, too, but it can't be told to stop: its time limits are for each operation, so a
peer that sends a byte now and then holds it for ever, and nobody else knows the socket while it's at it. Here
all of it has one deadline, and :meth:`Dialer.abort` ends it at any moment.
"""

from __future__ import annotations

import base64
import queue
import socket
import ssl
import threading
from time import monotonic
from typing import Any, Callable
from urllib.parse import urlsplit

from websocket._url import get_proxy_info  # which proxy is for which host: as websocket-client documents it

from .._support.signal_safe_queue import SignalSafeQueue
from .._support.time_limits import time_left
from .tls import TlsSocket

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
    """Makes one connection, in one thread. :meth:`abort` may be called from any other.

    Args:
        deadline: until when, by ``time.monotonic``; None is without limit.
    """

    def __init__(self, deadline: float | None) -> None:
        self._deadline = deadline
        self._socket: socket.socket | None = None
        self._aborted = False
        # What a look-up of the host's name gives: addresses, or an error.
        self._found: SignalSafeQueue[list[Any] | Exception] = SignalSafeQueue()

    def dial(self, uri: str, *, ssl_context: ssl.SSLContext | None) -> socket.socket | TlsSocket:
        """Connect, and return the socket, over which HTTP can begin.

        Args:
            uri: ``ws://`` or ``wss://``.
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
        sock = self._connect(proxy_host or host, (proxy_port or 80) if proxy_host else port)
        try:
            if proxy_host:
                self._ask_proxy(sock, host, port, proxy_login)
            stream: socket.socket | TlsSocket = sock
            if is_secure:
                stream = TlsSocket(sock, ssl_context or ssl.create_default_context(), host)
                stream.do_handshake(self.limit)
        except BaseException:
            self.close()
            raise
        return stream

    def abort(self) -> None:
        """Make :meth:`dial` fail at once, also when it is called later; end the connection that it made."""
        self._aborted = True
        self._found.put(_given_up())
        if self._socket is not None:
            shut_down(self._socket)

    def close(self) -> None:
        """Give back what :meth:`dial` made, or had begun to make. In its own thread, when nobody got it."""
        if self._socket is not None:
            self._socket.close()

    def limit(self) -> None:
        """Before everything that waits on the socket: let it wait until the deadline at most.

        Raises:
            socket.timeout: that is now.
            OSError: connecting was given up.
        """
        # After the socket became known: either abort() shuts it down, or it was called before and this sees it.
        if self._aborted:
            raise _given_up()
        assert self._socket is not None
        if self._deadline is None:
            self._socket.settimeout(None)
            return
        left = self._deadline - monotonic()
        if left <= 0:
            raise _timed_out()
        self._socket.settimeout(left)

    def _connect(self, host: str, port: int) -> socket.socket:
        failure: OSError | None = None
        for family, kind, protocol, _, address in self._look_up(host, port):
            self._socket = sock = socket.socket(family, kind, protocol)
            try:
                self.limit()
                sock.connect(address)
                for option in _SOCKET_OPTIONS:  # behind connect(): the server is busy by then, too
                    sock.setsockopt(*option)
            except OSError as error:
                sock.close()
                if self._aborted or (self._deadline is not None and monotonic() >= self._deadline):
                    raise
                failure = failure or error  # of several addresses the first one is the one that should work
            else:
                return sock
        raise failure or OSError(f"{host} has no address")

    def _look_up(self, host: str, port: int) -> list[Any]:
        """Return the addresses of a host, in the form of ``socket.getaddrinfo``."""
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass  # it's a name
        # The system's look-up of names has no time limit, and nothing can interrupt it. So a thread of its own
        # makes it, and if it isn't waited for any more, ends whenever the system has done with it.
        thread = threading.Thread(
            target=_find, args=(host, port, self._found.put), name=f"pie-sync look-up of {host}", daemon=True
        )
        thread.start()
        try:
            found = self._found.get(time_left(self._deadline))
        except queue.Empty:
            raise _timed_out() from None
        if isinstance(found, Exception):
            raise found
        return found

    def _ask_proxy(self, sock: socket.socket, host: str, port: int, login: tuple[str, str] | None) -> None:
        """Have an HTTP proxy pass everything on (RFC 9110 section 9.3.6)."""
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if login is not None:
            request += f"Proxy-Authorization: Basic {base64.b64encode(':'.join(login).encode()).decode()}\r\n"
        self.limit()
        sock.sendall(f"{request}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            self.limit()
            data = sock.recv(4096)
            answer += data
            if not data or len(answer) > _MAX_PROXY_ANSWER:
                raise OSError("the HTTP proxy gives no answer to CONNECT")
        status_line = answer.split(b"\r\n", 1)[0].decode(errors="replace")
        # Whoever is behind it speaks only when spoken to, so nothing can follow the answer yet.
        if not status_line.startswith("HTTP/1.") or status_line.split()[1:2] != ["200"]:
            raise OSError(f"the HTTP proxy refuses: {status_line[:200]}")


def _find(host: str, port: int, tell: Callable[[list[Any] | Exception], None]) -> None:
    try:
        tell(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except Exception as error:  # OSError, UnicodeError
        tell(error)


def _timed_out() -> OSError:
    return socket.timeout("timed out")  # TimeoutError, from Python 3.10 on


def _given_up() -> OSError:
    return ConnectionAbortedError("connecting was given up")


def shut_down(sock: socket.socket | TlsSocket) -> None:
    """End both directions of a socket, whatever other threads do with it. Never blocks or fails."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it's gone already
