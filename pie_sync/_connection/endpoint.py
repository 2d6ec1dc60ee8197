"""The endpoint of a server: its path and headers, and the protocol generations that it may speak."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Callable
from urllib.parse import urlsplit, urlunsplit

from .._protocol import PROTOCOLS
from .._support.time_limits import deadline_after
from .._transport.handshake import Connector
from ..errors import PieConnectionError

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Mapping

    from .._protocol import Protocol
    from .._transport.tls import TlsSocket

__all__ = ["Endpoint"]

#: The one path that Pie 0.5 serves; older servers take any. (Protocol: "Telling them apart".)
_GATEWAY_PATH = "/v1/ws"

#: Pie 0.5 reads the identity of a client from this header, which a proxy in front of the server may set.
_IDENTITY_HEADER = "x-pie-identity"


class Endpoint:
    """Makes one connection to a server of any generation.

    A URI without a path is first tried as it is. A server up to 0.4 accepts that; its first answer tells which
    of the two protocols it speaks. Pie 0.5 answers 404, and is then tried at its own path, with an identity.

    Args:
        uri: the user's.
        protocol: ``"auto"``, ``"instance"`` or ``"process"``.
        identity: the value of the header ``x-pie-identity``, for 0.5.
        timeout: seconds for all of :meth:`connect`; None is without limit.
        headers: the user's; one of theirs replaces one of ours.
        ssl_context: see :class:`Connector`.

    Attributes:
        candidates: the protocols that the server may speak; empty until there is a connection.
        is_gateway: whether the server is a 0.5.
        may_be_gateway: whether it is one, or that can't be told.
    """

    def __init__(
        self,
        uri: str,
        *,
        protocol: str,
        identity: str,
        timeout: float | None,
        headers: Mapping[str, str],
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.uri = uri
        self.candidates: tuple[Protocol, ...] = ()
        self.is_gateway = self.may_be_gateway = False
        self._protocol = protocol
        self._identity = identity
        self._timeout = timeout
        self._headers = headers
        self._ssl_context = ssl_context
        self._connector: Connector | None = None
        self._aborted = False

    def connect(self, on_request_sent: Callable[[], None]) -> socket.socket | TlsSocket:
        """Connect, and return the socket with the handshake behind it.

        Args:
            on_request_sent: called at least once, while a server makes up its answer.

        Raises:
            PieConnectionError: it can't be connected.
            PieConnectTimeoutError: not in time.
        """
        attempt = partial(self._attempt, deadline=deadline_after(self._timeout), on_request_sent=on_request_sent)
        parts = urlsplit(self.uri)
        is_bare = parts.path in ("", "/")
        if self._protocol == "instance":
            return attempt(self.uri, gateway=False)
        if parts.path.endswith(_GATEWAY_PATH):
            return attempt(self.uri, gateway=True)
        gateway_uri = urlunsplit(parts._replace(path=_GATEWAY_PATH)) if is_bare else self.uri
        try:
            return attempt(self.uri, gateway=False)
        except PieConnectionError as error:
            # 404: nothing here, but perhaps at 0.5's own path. 401: 0.5 at a path of the user's.
            if getattr(error.__cause__, "status_code", None) != (404 if is_bare else 401):
                raise
        return attempt(gateway_uri, gateway=True)

    def _attempt(
        self, uri: str, *, gateway: bool, deadline: float | None, on_request_sent: Callable[[], None]
    ) -> socket.socket | TlsSocket:
        headers = dict(self._headers)
        if gateway and _IDENTITY_HEADER not in (name.lower() for name in headers):
            headers[_IDENTITY_HEADER] = self._identity
        connector = Connector(
            uri, deadline=deadline, timeout=self._timeout, headers=headers, ssl_context=self._ssl_context
        )
        self._connector = connector
        if self._aborted:
            raise PieConnectionError("connecting was given up")
        sock = connector.connect(on_request_sent)
        if self._protocol != "auto":
            self.candidates = (PROTOCOLS[self._protocol],)
        else:
            self.candidates = (PROTOCOLS["process"],) if gateway else tuple(PROTOCOLS.values())
        # Asked for the process protocol at this very path, 0.3 and 0.4 answer as well.
        self.may_be_gateway = gateway
        self.is_gateway = gateway and (self._protocol == "auto" or uri != self.uri)
        return sock

    def close(self) -> None:
        """Give back the socket that :meth:`connect` made, or had begun to make. In its own thread."""
        if self._connector is not None:
            self._connector.close()

    def abort(self) -> None:
        """Make :meth:`connect` in another thread fail soon."""
        self._aborted = True
        if self._connector is not None:
            self._connector.abort()
