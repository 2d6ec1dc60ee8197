"""One client of the server: its connection, what is queued for it, and the protocol it speaks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Callable, Protocol

from websockets.exceptions import ConnectionClosed

from .._network.websocket import Connection
from .._programs.instance import Output
from .channel import Channel, Message

__all__ = ["Client", "Dialect", "HangUp"]

logger = logging.getLogger("pie_sync.testing")

FLUSH_TIMEOUT = 1.0


class HangUp(Exception):  # noqa: N818 - an order, not a fault
    """Raised by a dialect to end the connection.

    Attributes:
        abrupt: cut it, instead of sending what is queued and a close frame.
    """

    def __init__(self, *, abrupt: bool = False) -> None:
        super().__init__()
        self.abrupt = abrupt


class Dialect(Protocol):
    """A generation of the wire protocol, for one connection."""

    def receive(self, message: bytes | str) -> None:
        """Do what a message asks for; called in the connection's thread.

        Raises:
            HangUp: the connection shall end.
        """

    def lost(self, unsent: list[Output]) -> None:
        """Do what has to be done when the connection has ended; may be called again, with nothing unsent."""


class Client:
    """Serves one connection until it ends. Its sending thread runs from the start, and ends with :meth:`serve`.

    Args:
        connection: the connection.
        encode: makes the messages for an output.
        new_dialect: makes the dialect, given the channel for its answers.
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
        # Serialises the end of the connection, which may come from drop() and from serve() at once.
        self._end_lock = threading.Lock()
        self._ended = False
        self._sender.start()

    def serve(self) -> None:
        """Receive and answer until the connection ends; called in the connection's thread."""
        abrupt = True
        try:
            while True:
                self._dialect.receive(self._connection.recv())
        except ConnectionClosed:
            pass
        except HangUp as order:
            abrupt = order.abrupt
            if not abrupt:
                self._channel.drain(FLUSH_TIMEOUT)
        finally:
            self._end(0.0 if abrupt else FLUSH_TIMEOUT)
            # A launch or an attach may have been under way while another thread called drop().
            self._dialect.lost([])
            if abrupt:
                self._connection.abort()

    def drop(self) -> None:
        """Cut the connection, from another thread; when this returns, the dialect knows that it is lost."""
        self._end(FLUSH_TIMEOUT)
        self._connection.abort()

    def hold_back(self, seconds: float) -> None:
        """See :meth:`Channel.hold_back`."""
        self._channel.hold_back(seconds)

    def give_up(self) -> None:
        """Send nothing more, so that nothing waits for that; the connection itself goes on. Never blocks."""
        self._channel.close()

    def _end(self, patience: float) -> None:
        """Stop sending and give the unsent outputs back; what is being sent has ``patience`` seconds for it."""
        self._channel.close()
        with self._end_lock:
            self._sender.join(patience)
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
            logger.exception("cannot send")
            self._connection.abort()
