"""The opening handshake: from a URI to a socket that has been upgraded to WebSocket (RFC 6455 section 4)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Callable

from .._printable import SHORT, printable
from .._support.signal_handlers import is_from_signal_handler
from .._texts.hints import hint_for_connecting
from ..errors import PieConnectionError, PieConnectTimeoutError
from .dialer import Dialer, is_timeout
from .upgrade import UpgradeRefusedError, upgrade
from .uri import parse_uri

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Mapping

    from .tls import TlsSocket

__all__ = ["Connector"]

logger = logging.getLogger("pie_sync.connection")


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
        logger.debug("connecting to %s", self.uri)
        try:
            address = parse_uri(self.uri)
            sock = self._dialer.dial(address, ssl_context=self._ssl_context)
            upgrade(sock, address, self._headers, self._dialer.limit, on_request_sent)
        except BaseException as error:  # OSError, ValueError, WebSocketException, what a signal handler raises
            self.close()
            if not isinstance(error, Exception) or is_from_signal_handler(error):
                raise
            failure = self._failure(error)
            failure.hint = hint_for_connecting(self.uri.partition("://")[0].lower(), error)
            raise failure from error
        logger.debug("connected to %s", self.uri)
        return sock

    def _failure(self, error: Exception) -> PieConnectionError:
        """Return what the user is told of an error."""
        if is_timeout(error):
            detail = str(error).replace("timed out", "").lstrip(":; ")
            return PieConnectTimeoutError(
                f"no connection to {self.uri} within {self._timeout} s (connect_timeout)"
                + (f": {detail}" if detail else "")
            )
        if not isinstance(error, UpgradeRefusedError):
            return PieConnectionError(f"can't connect to {self.uri}: {error}")
        if 300 <= error.status_code < 400:
            # A redirect is not followed: the user would authenticate to a host that the user did not name.
            target = printable(error.location or "nowhere", SHORT)
            return PieConnectionError(
                f"{self.uri} redirects to {target}, which is not followed; if you trust it, connect to it instead"
            )
        return PieConnectionError(f"{self.uri} refused the WebSocket upgrade: {error}")

    def abort(self) -> None:
        """Make :meth:`connect` in another thread fail at once."""
        self._dialer.abort()

    def close(self) -> None:
        """Give back the socket that :meth:`connect` made, or had begun to make. In its own thread."""
        self._dialer.close()
