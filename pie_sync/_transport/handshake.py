"""The opening handshake: from a URI to a socket that has been upgraded to WebSocket (RFC 6455 section 4).

websocket-client makes the HTTP upgrade, on a socket that :class:`Dialer` has connected.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any, Callable

import websocket

from ..errors import PieConnectionError, PieConnectTimeoutError
from .dialer import Dialer
from .tls import TlsSocket

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

__all__ = ["Connector"]

logger = logging.getLogger("pie_sync.connection")

#: The most bytes that a server may answer to the request for the upgrade, the text of a refusal included.
_MAX_HEAD = 1024 * 1024


class Connector:
    """Makes one connection. Its thread can be told to give up by :meth:`abort`, from another thread.

    Args:
        uri: ``ws://`` or ``wss://``.
        deadline: when all of it must be done, by ``time.monotonic``; None is without limit.
        timeout: how many seconds that was, for the error.
        headers: more HTTP headers for the upgrade request.
        ssl_context: for ``wss://``; None verifies certificate and host name against the system's authorities.
    """

    def __init__(
        self,
        uri: str,
        *,
        deadline: float | None,
        timeout: float | None,
        headers: Mapping[str, str],
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.uri = uri
        self._timeout = timeout
        self._headers = dict(headers)
        self._ssl_context = ssl_context
        self._dialer = Dialer(deadline)

    def connect(self, on_request_sent: Callable[[], None]) -> socket.socket | TlsSocket:
        """Connect, and return the socket with the handshake behind it.

        Args:
            on_request_sent: called once, when the server has been asked for the upgrade and has not answered yet.

        Raises:
            PieConnectionError: it can't be made.
            PieConnectTimeoutError: not in time.
        """
        upgrade: websocket.WebSocket | None = None
        logger.debug("connecting to %s", self.uri)
        try:
            sock = self._dialer.dial(self.uri, ssl_context=self._ssl_context)
            upgrade = websocket.WebSocket(enable_multithread=False)
            upgrade.connect(  # type: ignore[no-untyped-call]
                self.uri,
                socket=_HeadReader(sock, self._dialer.limit, on_request_sent),
                header=self._headers,
                suppress_origin=True,  # the Origin header is a browser's
                redirect_limit=0,  # see _redirected
            )
            if upgrade.handshake_response.status != 101:  # type: ignore[union-attr]
                # websocket-client up to 1.9.0 takes a redirect that it doesn't follow for an upgrade.
                raise websocket.WebSocketException("Redirect limit exhausted")
        except websocket.WebSocketBadStatusException as error:
            body = (error.resp_body or b"").decode(errors="replace").strip()[:200]
            answer = f"{error.status_code} {error.args[0].split(' -+-+- ')[0].partition(' ')[2]}"
            raise self._redirected(error.status_code, error.resp_headers or {}) or PieConnectionError(
                f"{self.uri} refused the WebSocket upgrade: {answer}{': ' if body else ''}{body}"
            ) from error
        except BaseException as error:  # OSError, ValueError, WebSocketException, Ctrl-C
            self.close()
            if not isinstance(error, Exception):
                raise
            if _is_timeout(error):
                raise PieConnectTimeoutError(
                    f"no connection to {self.uri} within {self._timeout} s (connect_timeout)"
                ) from error
            response = None if upgrade is None else upgrade.handshake_response
            redirected = None if response is None else self._redirected(response.status, response.headers)
            raise redirected or PieConnectionError(f"can't connect to {self.uri}: {error}") from error
        logger.debug("connected to %s", self.uri)
        upgrade.sock = None  # it's ours now: websocket-client must not close it when it's collected
        return sock

    def _redirected(self, status: int, headers: Mapping[str, str]) -> PieConnectionError | None:
        """A redirect is not followed: the user would authenticate to a host that the user did not name."""
        if not 300 <= status < 400:
            return None
        target = headers.get("location")
        return PieConnectionError(
            f"{self.uri} redirects to {target}, which is not followed; if you trust it, connect to it instead"
        )

    def abort(self) -> None:
        """Make :meth:`connect` in another thread fail at once."""
        self._dialer.abort()

    def close(self) -> None:
        """Give back the socket that :meth:`connect` made, or had begun to make. In its own thread."""
        self._dialer.close()


class _HeadReader:
    """A socket to read an HTTP head from: up to its end at once, and not a byte beyond.

    websocket-client reads it byte by byte, with a system call for each: 0.5 ms of the 1 ms that connecting takes.
    It puts together what it gets until that is a newline, so it gets a line at a time instead; asked for a byte.

    Args:
        sock: a connected socket.
        limit: called before each wait; sets the socket's time limit, or raises what ends the handshake.
        on_request_sent: called before the first wait.
    """

    def __init__(
        self, sock: socket.socket | TlsSocket, limit: Callable[[], None], on_request_sent: Callable[[], None]
    ) -> None:
        self._socket = sock
        self._limit = limit
        self._on_request_sent = on_request_sent
        self._ahead = b""
        self._position = 0
        self._last = b""  # the blank line at the end may come in two pieces
        self._left = _MAX_HEAD
        # Asked for with each byte.
        self.gettimeout = sock.gettimeout

    def recv(self, size: int) -> bytes:
        """Read like a socket; but asked for one byte, give all up to the next newline, or that."""
        if size == 0:  # an empty body, by websocket-client up to 1.8
            return b""
        position = self._position
        if position == len(self._ahead):
            if self._left == _MAX_HEAD:
                self._on_request_sent()
            self._ahead = self._read_ahead()
            self._left -= len(self._ahead)
            if self._left < 0:
                raise PieConnectionError(f"its answer to the upgrade is longer than {_MAX_HEAD} bytes")
            position = 0
        if size == 1:
            size = max(1, self._ahead.find(b"\n", position) - position)
        data = self._ahead[position : position + size]
        self._position = position + len(data)
        return data

    def _read_ahead(self) -> bytes:
        self._limit()
        if isinstance(self._socket, TlsSocket):
            return self._socket.recv(1)  # there's no looking ahead in it, but no system call for each byte either
        seen = self._last + self._socket.recv(4096, socket.MSG_PEEK)
        end = seen.find(b"\r\n\r\n")
        wanted = (len(seen) if end < 0 else end + 4) - len(self._last)
        ahead = self._socket.recv(wanted) if wanted else b""
        self._last = (self._last + ahead)[-3:]
        return ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


def _is_timeout(error: Exception) -> bool:
    """Whether our time limit is over. The system's own one (ETIMEDOUT: the host is not there) is another thing."""
    kinds = (TimeoutError, socket.timeout, websocket.WebSocketTimeoutException)
    return isinstance(error, kinds) and getattr(error, "errno", None) is None
