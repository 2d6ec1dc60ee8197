"""One client of the server: its connection, its outgoing queue, and its dialect."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Callable, Protocol

from websockets.exceptions import ConnectionClosed

from .._network.websocket import Connection, Message
from .._programs.instance import Output
from .channel import Channel

__all__ = ["Client", "CloseConnection", "Dialect"]

logger = logging.getLogger("pie_sync.testing")

FLUSH_TIMEOUT = 1.0  # seconds


class CloseConnection(Exception):  # noqa: N818 - a command, not an error
    """Raised by a dialect to end the connection, by a close frame without a status after what is queued."""


class Dialect(Protocol):
    """The server's side of one generation of the wire protocol, for one connection."""

    def receive(self, message: bytes | str) -> None:
        """Handle a message. Called in the connection's thread.

        Raises:
            CloseConnection: to end the connection.
        """

    def lost(self, unsent: list[Output]) -> None:
        """Detach or end the instances of the connection, which has ended.

        May be called again, then with nothing unsent.

        Args:
            unsent: the outputs that could not be sent.
        """


class Client:
    """Serves one connection until it ends. Starts a thread that sends; the thread ends with :meth:`serve`.

    Args:
        connection: the connection.
        encode: encodes an output as messages.
        new_dialect: makes the dialect, which puts its answers into the given channel.
    """

    def __init__(
        self,
        connection: Connection,
        encode: Callable[[Output], Iterable[Message]],
        new_dialect: Callable[[Channel], Dialect],
    ) -> None:
        self._connection = connection
        self._channel = Channel(connection.transmit, encode)
        self._dialect = new_dialect(self._channel)
        self._sender = threading.Thread(target=self._send, name="sender", daemon=True)
        # Serialises _end(), which drop() and serve() may call at once.
        self._end_lock = threading.Lock()
        self._ended = False
        self._sender.start()

    def serve(self) -> None:
        """Handle messages until the connection ends. Called in the connection's thread."""
        hangs_up = False
        try:
            while True:
                self._dialect.receive(self._connection.recv())
        except ConnectionClosed:
            pass
        except CloseConnection:
            hangs_up = True
            self._channel.drain(FLUSH_TIMEOUT)
        finally:
            self._end(FLUSH_TIMEOUT if hangs_up else 0.0)
            # A launch or an attach may have been in progress when another thread called drop().
            self._dialect.lost([])
            if hangs_up:
                self._connection.close_without_status()
            self._connection.abort()

    def drop(self) -> None:
        """Abort the connection. Called from other threads; blocks until the dialect has handled the loss."""
        self._end(FLUSH_TIMEOUT)
        self._connection.abort()

    def set_delay(self, seconds: float) -> None:
        """See :meth:`Channel.set_delay`."""
        self._channel.set_delay(seconds)

    def stop_sending(self) -> None:
        """Send nothing more, so that no thread waits for this client to read. Never blocks."""
        self._channel.close()

    def _end(self, timeout: float) -> None:
        """Stop sending, and hand the unsent outputs to the dialect.

        A batch that is being sent has ``timeout`` seconds before the connection is aborted.
        """
        self._channel.close()
        with self._end_lock:
            self._sender.join(timeout)
            if self._sender.is_alive():
                self._connection.abort()
                self._sender.join()
            if not self._ended:
                self._ended = True
                self._dialect.lost(self._channel.unsent())

    def _send(self) -> None:
        try:
            self._channel.run()
        except Exception:
            logger.exception("could not send to a client")
            self._connection.abort()
