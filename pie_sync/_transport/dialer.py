"""The way to a server: TCP, an HTTP proxy where the environment names one, TLS.

websocket-client could do this, too, but it can't be told to stop: its time limits are for each operation, so a
peer that sends a byte now and then holds it for ever, and nobody else knows the socket while it's at it. Here
all of it has one deadline, and :meth:`Dialer.abort` ends it at any moment.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import queue
import socket
import ssl
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable

from .._printable import SHORT, printable
from .._support.signal_handlers import is_from_signal_handler, start_thread
from .._support.signal_safe_queue import SignalSafeQueue
from .._support.time_limits import time_left
from .http_head import parse_head, read_head
from .keep_alive import KEEP_ALIVE_OPTIONS
from .proxy import proxy_for
from .racing import connect_first
from .tls import TlsSocket
from .uri import is_loopback

if TYPE_CHECKING:
    from .proxy import Proxy
    from .uri import Address

__all__ = ["Dialer", "is_timeout", "shut_down"]

#: What a proxy may say before it lets the bytes through.
_MAX_PROXY_ANSWER = 64 * 1024

#: What the system may hold unsent. More than a chunk or two would only keep pings and pongs waiting behind it.
_UNSENT = 128 * 1024

#: They make things better, and are no requirement: a kernel may know less than the one that Python was built for.
_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    *KEEP_ALIVE_OPTIONS,
    *([(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)] if hasattr(socket, "TCP_NOTSENT_LOWAT") else []),
]


class Dialer:
    """Makes one connection, in one thread. :meth:`abort` may be called from any other.

    Args:
        deadline: until when, by ``time.monotonic``; None is without limit.
    """

    def __init__(self, deadline: float | None) -> None:
        self._deadline = deadline
        # While connecting several, behind it the one that is connected.
        self._sockets: list[socket.socket] = []
        self._aborted = False
        # What a look-up of the host's name gives: addresses, or an error.
        self._found: SignalSafeQueue[list[Any] | Exception] = SignalSafeQueue()

    def dial(self, address: Address, *, ssl_context: ssl.SSLContext | None) -> socket.socket | TlsSocket:
        """Connect, and return the socket, over which HTTP can begin.

        Args:
            address: where to.
            ssl_context: for ``wss://``; None verifies certificate and host name against the system's authorities.

        Raises:
            socket.timeout: the deadline came first.
            OSError: it can't be made, or was aborted.
            ValueError: the environment names a proxy that can't be used.
        """
        proxy = proxy_for(address, os.environ)
        sock = self._connect(address.host, address.port) if proxy is None else self._tunnel(proxy, address)
        if not address.is_secure:
            return sock
        # Certificates are for names without the dot at the end (RFC 6066 section 3), and know no zones.
        name = address.host.partition("%")[0].rstrip(".")
        stream = TlsSocket(sock, ssl_context or ssl.create_default_context(), name)
        stream.do_handshake(self.limit)
        return stream

    def abort(self) -> None:
        """Make :meth:`dial` fail at once, also when it is called later; end the connection that it made."""
        self._aborted = True
        self._found.put(_given_up())
        for sock in list(self._sockets):
            shut_down(sock)

    def close(self) -> None:
        """Give back what :meth:`dial` made, or had begun to make. In its own thread, when nobody got it."""
        for sock in self._sockets:
            sock.close()

    def limit(self) -> None:
        """Before everything that waits on the socket: let it wait until the deadline at most.

        Raises:
            socket.timeout: that is now.
            OSError: connecting was given up.
        """
        self._check()
        (sock,) = self._sockets
        if self._deadline is None:
            sock.settimeout(None)
            return
        left = self._deadline - monotonic()
        if left <= 0:
            raise _timed_out()
        sock.settimeout(left)

    def _check(self) -> None:
        # After a socket became known: either abort() shuts it down, or it was called before and this sees it.
        if self._aborted:
            raise _given_up()

    def _connect(self, host: str, port: int) -> socket.socket:
        addresses = self._look_up(host, port)
        if is_loopback(host):
            # Wherever a name server sends us: what is taken for confidential must not leave this machine.
            addresses = [found for found in addresses if ipaddress.ip_address(found[4][0]).is_loopback]
        if not addresses:
            raise OSError(f"{host} has no {'loopback ' if is_loopback(host) else ''}address")
        sock = connect_first(addresses, self._deadline, self._sockets, self._check)
        for option in _SOCKET_OPTIONS:  # behind connecting: the server is busy by then, too
            try:
                sock.setsockopt(*option)
            except OSError as error:
                if is_from_signal_handler(error):
                    raise
        return sock

    def _look_up(self, host: str, port: int) -> list[Any]:
        """Return the addresses of a host, in the form of ``socket.getaddrinfo``."""
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror as error:  # it's a name
            if is_from_signal_handler(error):
                raise
        # The system's look-up of names has no time limit, and nothing can interrupt it. So a thread of its own
        # makes it, and if it isn't waited for any more, ends whenever the system has done with it.
        thread = threading.Thread(
            target=_find, args=(host, port, self._found.put), name=f"pie-sync look-up of {host}", daemon=True
        )
        start_thread(thread)
        try:
            found = self._found.get(time_left(self._deadline))
        except queue.Empty:
            raise _timed_out() from None
        if isinstance(found, Exception):
            raise found
        return found

    def _tunnel(self, proxy: Proxy, address: Address) -> socket.socket:
        """Connect to a proxy, and have it pass everything on. Its errors say that they are the proxy's."""
        try:
            sock = self._connect(proxy.host, proxy.port)
            self._ask_proxy(sock, proxy, address)
        except OSError as error:
            if self._aborted or is_from_signal_handler(error):
                raise
            if is_timeout(error):
                raise socket.timeout(f"the HTTP proxy does not answer ({proxy})") from error
            if isinstance(error, _ProxyRefusedError):
                raise
            raise OSError(f"the HTTP proxy can't be reached ({proxy}): {error}") from error
        return sock

    def _ask_proxy(self, sock: socket.socket, proxy: Proxy, address: Address) -> None:
        """Send CONNECT (RFC 9110 section 9.3.6)."""
        host = f"[{address.host}]" if ":" in address.host else address.host
        target = f"{host}:{address.port}"
        request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if proxy.login is not None:
            request += (
                f"Proxy-Authorization: Basic {base64.b64encode(':'.join(proxy.login).encode()).decode()}\r\n"
            )
        self.limit()
        sock.sendall(f"{request}\r\n".encode())
        try:
            head = parse_head(read_head(sock, self.limit, _MAX_PROXY_ANSWER))
        except (EOFError, OverflowError):
            raise _ProxyRefusedError(f"the HTTP proxy gives no answer to CONNECT ({proxy})") from None
        except ValueError as error:
            status_line = printable(str(error), SHORT)
            raise _ProxyRefusedError(f"the HTTP proxy refuses: {status_line} ({proxy})") from None
        if not 200 <= head.status < 300:
            answer = f"{head.status} {printable(head.reason, SHORT)}".rstrip()
            retry_after = head.headers.get("retry-after")
            raise _ProxyRefusedError(
                f"the HTTP proxy refuses: {answer} ({proxy})"
                + (f" (Retry-After: {printable(retry_after, SHORT)})" if retry_after else "")
            )


class _ProxyRefusedError(OSError):
    pass


def _find(host: str, port: int, tell: Callable[[list[Any] | Exception], None]) -> None:
    try:
        tell(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except Exception as error:  # OSError, UnicodeError
        tell(error)


def _timed_out() -> OSError:
    return socket.timeout("timed out")  # TimeoutError, from Python 3.10 on


def is_timeout(error: BaseException) -> bool:
    """Whether our time limit is over. The system's own one (ETIMEDOUT: the host is not there) is another thing."""
    return isinstance(error, (TimeoutError, socket.timeout)) and getattr(error, "errno", None) is None


def _given_up() -> OSError:
    return ConnectionAbortedError("connecting was given up")


def shut_down(sock: socket.socket | TlsSocket) -> None:
    """End both directions of a socket, whatever other threads do with it. Never blocks or fails."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError as error:  # it's gone already
        if is_from_signal_handler(error):
            raise
