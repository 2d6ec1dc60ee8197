"""The HTTP upgrade (RFC 6455 section 4): websocket-client asks for it and checks the answer, and sees no more.

websocket-client has state that is shared by the whole process: a jar of cookies, which it fills and sends without
being asked, a switch that logs what is sent (``websocket.enableTrace``), a time limit. A client must neither tell
nor learn anything by way of them. So websocket-client gets a host that no cookie can be for, no header of the
user's, and of the server's answer the few headers that it has to check. A refusal it does not see at all.

This is all that is relied on of websocket-client, from 1.6 on; ``tests/transport/test_upgrade.py`` tests it:

- ``WebSocket.connect(uri, socket=...)`` does not connect by itself. It calls these methods of the object that it
  gets: ``send`` with the whole request, once; ``recv(1)`` for each byte of the answer, where it takes more than
  one, if only each newline comes alone; ``gettimeout``; and after a failure ``close``.
- The request ends with a blank line, and carries the path of the URI and the option ``host``.
- An answer that does not fit the request is a ``WebSocketException``.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Callable

import websocket

from .._printable import SHORT, printable
from .._support.signal_handlers import is_from_signal_handler
from .http_head import Head, parse_head, read_head
from .tls import TlsSocket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .uri import Address

__all__ = ["UpgradeRefusedError", "upgrade"]

#: The most bytes that a server may answer to the request for the upgrade.
_MAX_HEAD = 1024 * 1024

#: How many bytes of a refusal's text are read: no more of them is repeated.
_MAX_BODY = 4 * SHORT

#: What websocket-client checks.
_CHECKED = ("upgrade", "connection", "sec-websocket-accept", "sec-websocket-protocol")


class UpgradeRefusedError(Exception):
    """The server answered the request for the upgrade otherwise than by 101.

    Attributes:
        status_code: the HTTP status.
        location: where the server points to, if it does.
    """

    def __init__(self, head: Head, body: bytes) -> None:
        self.status_code = head.status
        self.location = head.headers.get("location")
        text = " ".join(filter(None, [str(head.status), printable(head.reason, SHORT)]))
        said = printable(body.decode(errors="replace"), SHORT)
        retry_after = head.headers.get("retry-after")
        super().__init__(
            text
            + (f": {said}" if said else "")
            + (f" (Retry-After: {printable(retry_after, SHORT)})" if retry_after else "")
        )


def upgrade(
    sock: socket.socket | TlsSocket,
    address: Address,
    headers: Mapping[str, str],
    limit: Callable[[], None],
    on_request_sent: Callable[[], None],
) -> None:
    """Upgrade a connected socket to WebSocket. Neither closes it nor reads a byte beyond the answer.

    Args:
        sock: the socket.
        address: the server's.
        headers: more headers for the request.
        limit: called before each wait; sets the socket's time limit, or raises what ends the handshake.
        on_request_sent: called once, before the wait for the answer.

    Raises:
        UpgradeRefusedError: the server does not want to.
        websocket.WebSocketException: what it answers is no WebSocket handshake.
        OSError: the connection is broken, or ``limit`` said no.
    """
    border = _Border(sock, headers, limit, on_request_sent)
    client = websocket.WebSocket(enable_multithread=False)
    no_host = os.urandom(8).hex()  # nobody can know it, and set a cookie for it
    handled = sys.exc_info()[1]
    try:
        client.connect(  # type: ignore[no-untyped-call]
            f"ws://{no_host}{address.resource}",
            socket=border,
            host=address.host_header,
            suppress_origin=True,  # the Origin header is a browser's
            redirect_limit=0,
        )
    except Exception as error:
        # What was raised on this side of the border, or by a signal handler, passes as it was, not as
        # websocket-client makes it.
        original: BaseException | None = border.error or error
        while original is not None and original is not handled:
            if original is border.error or is_from_signal_handler(original):
                raise original from None
            original = original.__context__
        raise
    client.sock = None  # there is nothing to close when it's collected


class _Border:
    """What websocket-client takes for its socket. See the module.

    Attributes:
        error: what went wrong on this side of the border.
    """

    def __init__(
        self,
        sock: socket.socket | TlsSocket,
        headers: Mapping[str, str],
        limit: Callable[[], None],
        on_request_sent: Callable[[], None],
    ) -> None:
        self.error: BaseException | None = None
        self._socket = sock
        self._headers = headers
        self._limit = limit
        self._on_request_sent = on_request_sent
        # What websocket-client has to read: lines, and each newline by itself.
        self._pieces: list[bytes] | None = None

    def gettimeout(self) -> None:
        """There is no limit for a single step: ``limit`` is for all."""

    def close(self) -> None:
        """The socket is not websocket-client's to close."""

    def send(self, request: bytes) -> int:
        """Send the request, with the user's headers at its end."""
        try:
            more = "".join(f"{name}: {value}\r\n" for name, value in self._headers.items())
            data = memoryview(request[:-2] + more.encode() + b"\r\n")
            while data:
                self._limit()
                data = data[self._socket.send(data) :]
        except BaseException as error:
            self.error = error
            raise
        return len(request)

    def recv(self, size: int) -> bytes:
        """Return the next piece of the answer."""
        if self._pieces is None:
            try:
                self._pieces = self._answer()
            except BaseException as error:
                self.error = error
                raise
        return self._pieces.pop(0) if self._pieces else b""

    def _answer(self) -> list[bytes]:
        self._on_request_sent()
        try:
            head = parse_head(read_head(self._socket, self._limit, _MAX_HEAD))
        except EOFError:
            raise ConnectionResetError("the server ended the connection before it answered the upgrade") from None
        except OverflowError:
            raise ConnectionAbortedError(f"its answer to the upgrade is longer than {_MAX_HEAD} bytes") from None
        except ValueError as error:
            raise websocket.WebSocketException(
                f"the server does not answer in HTTP/1, but with {printable(str(error), SHORT)!r}"
            ) from None
        if head.status != 101:
            raise UpgradeRefusedError(head, self._body(head))
        lines = ["HTTP/1.1 101 Switching Protocols"]
        lines += [f"{name}: {head.headers[name]}" for name in _CHECKED if name in head.headers]
        return [piece for line in [*lines, ""] for piece in (f"{line}\r".encode(), b"\n")]

    def _body(self, head: Head) -> bytes:
        """Return the beginning of a refusal's text. Without a length there may be none, or no end."""
        length = head.headers.get("content-length", "")
        wanted = min(int(length), _MAX_BODY) if length.isascii() and length.isdigit() and len(length) < 20 else 0
        body = b""
        while len(body) < wanted:
            self._limit()
            piece = self._socket.recv(wanted - len(body))
            if not piece:
                break
            body += piece
        return body
