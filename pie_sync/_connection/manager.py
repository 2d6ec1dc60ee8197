"""The connection of a client over its life: made, lost, made again, closed."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from .._session.session import Session
from .._support.time_limits import Limit
from ..errors import AuthenticationError, PieConnectionError
from .authentication import Authentication
from .endpoint import Endpoint
from .programs import Programs
from .reconnection import OrphanedError, Restoration

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from ..instance import Instance
    from .reconnection import RestoredConnection

__all__ = ["Connection", "Lifecycle"]


class Connection(NamedTuple):
    """What belongs to one connection. A client that connects again gets another one of these."""

    session: Session
    authentication: Authentication
    programs: Programs


def _wait_until_restored(session: Session, method: str, limit: Limit) -> bool:
    """If a session is lost but is going to be replaced, wait for that; say whether it was."""
    restoration = session.restoration
    if session.lost is None or restoration is None:
        return False
    if not restoration.wait(limit.left()):
        raise limit.expired(method, "the connection was lost, and not restored")
    return True


class Lifecycle:
    """Makes the connections of one client, one after the other. Everything may be called from any thread.

    The arguments are those of :class:`PieClient`, checked.

    Attributes:
        connection: the one that there is, or that was lost last; None before the first and after :meth:`close`.
    """

    def __init__(
        self,
        server_uri: str,
        *,
        connect_timeout: float | None,
        ssl_context: ssl.SSLContext | None,
        headers: Mapping[str, str],
        websocket_options: dict[str, Any],
        max_blob_size: int,
        max_buffered_bytes: int,
        reconnect: bool,
        reconnect_timeout: float | None,
        protocol: str,
        identity: str,
    ) -> None:
        self.connection: Connection | None = None
        self._server_uri = server_uri
        self._connect_timeout = connect_timeout
        self._ssl_context = ssl_context
        self._headers = headers
        self._websocket_options = websocket_options
        self._max_blob_size = max_blob_size
        self._max_buffered_bytes = max_buffered_bytes
        self._reconnect = reconnect
        self._reconnect_timeout = reconnect_timeout
        self._protocol = protocol
        self._identity = identity
        # Serialises connect().
        self._connect_lock = threading.Lock()
        # Guards connection, _opening and _closings. Never held while anything is waited for.
        self._life_lock = threading.Lock()
        self._opening: Session | None = None
        self._closings = 0
        self._is_abandoned = False

    @property
    def closed(self) -> bool:
        """Whether there is no connection: not yet, not any more, or lost (and not being restored)."""
        connection = self.connection
        return connection is None or (
            connection.session.lost is not None and not connection.session.is_being_restored
        )

    def connect(self) -> None:
        """Do what :meth:`PieClient.connect` says."""
        with self._connect_lock:
            connection = self.connection
            if connection is not None:
                connection.session.check_process()
            if not self.closed:
                return
            closings = self._closings
            try:
                connection = self._open(self._connect_timeout, announce=self._set_opening)
            except BaseException:
                # Ctrl-C may have come when the connection was there already, and nobody knew of it yet.
                if self._opening is not None:
                    self._opening.abort()
                raise
            with self._life_lock:
                self._opening = None
                if self._closings == closings:
                    self.connection = connection
                    if self._reconnect:
                        connection.session.restore_with(self._restoration_of(connection))
                    return
        connection.session.close()
        raise PieConnectionError("the client was closed while it was connecting")

    def _set_opening(self, session: Session) -> None:
        """Take note of the session that is being opened, so that close() can end that."""
        with self._life_lock:
            self._opening = session

    def _open(
        self,
        timeout: float | None,
        before: Connection | None = None,
        announce: Callable[[Session], None] = lambda session: None,
    ) -> Connection:
        """Make a connection.

        Args:
            timeout: seconds.
            before: the connection that this one is to replace.
            announce: told the session before it is opened.
        """
        endpoint = Endpoint(
            self._server_uri,
            protocol=self._protocol,
            identity=self._identity,
            timeout=timeout,
            headers=self._headers,
            ssl_context=self._ssl_context,
        )
        session = Session(
            endpoint,
            websocket_options=self._websocket_options,
            max_blob_size=self._max_blob_size,
            max_buffered_bytes=self._max_buffered_bytes,
            before=None if before is None else before.session,
        )
        connection = Connection(
            session, Authentication(session), Programs(session, None if before is None else before.programs)
        )
        announce(session)
        session.open()
        return connection

    def _restoration_of(self, connection: Connection) -> Restoration:
        """Return what is to happen when a connection is lost.

        It refers to this object weakly: the reader thread holds on to it, and must not keep alive what belongs to
        a client that nobody holds any more.
        """
        reference = weakref.ref(self)

        def connect(timeout: float | None, announce: Callable[[Session], None]) -> Connection:
            lifecycle = reference()
            if lifecycle is None:
                raise OrphanedError("the client is gone")
            limits = [limit for limit in (timeout, lifecycle._connect_timeout) if limit is not None]
            new = lifecycle._open(min(limits, default=None), connection, announce)
            new.session.keep_instances()
            connection.authentication.repeat_on(new.authentication, Limit(timeout))
            return new

        def restored(new: RestoredConnection) -> bool:
            lifecycle = reference()
            assert isinstance(new, Connection)
            return lifecycle is None or lifecycle._replace(connection, new)

        return Restoration(self._reconnect_timeout, connect, restored)

    def _replace(self, connection: Connection, new: Connection) -> bool:
        """Use a new connection in place of one that was lost. False if the new one is lost as well."""
        with self._life_lock:
            is_wanted = self.connection is connection  # the user may have closed the client, or connected anew
            if is_wanted:
                self.connection = new
            if not is_wanted or self._is_abandoned:
                new.session.keep_instances(False)
                new.session.abort()
                return True
            if not new.session.restore_with(self._restoration_of(new)):
                self.connection = connection
                return False
            new.session.counters.reconnects += 1
            return True

    def close(self) -> None:
        """Do what :meth:`PieClient.close` says."""
        with self._life_lock:
            connection, self.connection = self.connection, None
            opening, self._opening = self._opening, None
            self._closings += 1
        if opening is not None:
            opening.abort()
        if connection is not None:
            connection.session.close()

    def abandon(self) -> None:
        """End the connection without the closing handshake.

        For finalizers, which run anywhere: so it neither waits nor takes a lock.
        """
        self._is_abandoned = True  # first, for _replace()
        connection = self.connection
        if connection is not None:
            connection.session.abort()

    # --- the connection, for whoever wants to use it ----------------------------------------------------

    def connected(self, method: str) -> Connection:
        """The connection, if there is one, lost or not.

        Raises:
            PieConnectionError: there is none, or it was made before a fork.
        """
        connection = self.connection
        if connection is None:
            raise PieConnectionError(
                f"{method}: the client is not connected: call connect(), or use 'with PieClient(...) as client'"
            )
        connection.session.check_process()
        return connection

    def authenticated(self, method: str, limit: Limit) -> Connection:
        """The connection, once it may be used: before, the server would hang up without a word.

        Raises:
            AuthenticationError: nobody has authenticated.
            PieTimeoutError: the connection was lost, and is not restored in time.
            PieConnectionError: there is none, or it is lost.
        """
        connection = self.connection
        if connection is not None and connection.session.is_usable and connection.authentication.is_done:
            return connection
        # It's not that simple; and if it fails, the error has to say why.
        connection = self.connected(method)
        if _wait_until_restored(connection.session, method, limit):
            connection = self.connected(method)
        connection.session.check()
        if not connection.authentication.is_done:
            raise AuthenticationError(f"{method}: authenticate first: client.authenticate(username, private_key)")
        return connection

    def session_of(self, instance: Instance, method: str, limit: Limit) -> Session:
        """The session that an instance is attached to, once it may be used; raises as :meth:`authenticated`."""
        if _wait_until_restored(instance._session, method, limit):
            connection = self.connected(method)
            if connection.session.has_instance(instance.id):
                instance._session = connection.session
        instance._session.check()
        return instance._session
