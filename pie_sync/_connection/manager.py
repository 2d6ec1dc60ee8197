"""The connection manager: the connections of one client, one after the other: made, lost, made again, closed."""

from __future__ import annotations

import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from .._session.memory_limit import MemoryLimit
from .._session.session import Session, State
from .._support.time_limits import Default, TimeLimit, check_polling_timeout, check_timeout
from ..errors import AuthenticationError, PieConnectionError
from .authentication import Authentication
from .endpoint import Endpoint
from .functions import INSTALL_TIMEOUT, Functions
from .programs import Programs
from .reconnection import Reconnector, UnwantedError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping

    from .._session.event_queue import EventQueue
    from .._session.probes import Silence
    from .._support.time_limits import Timeout

__all__ = ["Connection", "ConnectionManager"]


class Connection(NamedTuple):
    """What belongs to one connection. A client that connects again gets another one of these."""

    session: Session
    authentication: Authentication
    programs: Programs
    functions: Functions


class ConnectionManager:
    """Makes the connections of one client. Everything may be called from any thread.

    The client, its instances and its runs hold the manager. Nothing that a thread of the library holds does: when
    nobody uses the client any more, the manager is collected as garbage and ends the connection.

    The arguments are those of :class:`PieClient`, checked.

    Attributes:
        connection: the one that there is, or that was lost last; None before the first and after :meth:`close`.
    """

    def __init__(
        self,
        server_uri: str,
        *,
        timeout: float | None,
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
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._ssl_context = ssl_context
        self._headers = headers
        self._websocket_options = websocket_options
        self._max_blob_size = max_blob_size
        # One for all connections: what was lost with one of them may still have events that nobody has consumed.
        self._memory = MemoryLimit(max_buffered_bytes)
        self._reconnect = reconnect
        self._reconnect_timeout = reconnect_timeout
        self._protocol = protocol
        self._identity = identity
        # Serialises connect().
        self._connect_lock = threading.Lock()
        # Serialises the replacement of a connection on which to authenticate has failed.
        self._renew_lock = threading.Lock()
        # Guards connection, _reconnector, _opening and _closings. Never held while anything is waited for.
        self._lock = threading.Lock()
        self._reconnector: Reconnector | None = None
        self._opening: Session | None = None
        self._closings = 0
        self._is_abandoned = False

    def __repr__(self) -> str:
        return f"<PieClient {self._server_uri} {'closed' if self.closed else 'connected'}>"

    def __del__(self) -> None:
        if not hasattr(self, "_is_abandoned") or self.closed:
            return  # (__init__ was interrupted)
        text = f"unclosed {self!r}: use 'with' or close()"
        self._abandon()  # first: the warning may be raised
        warnings.warn(text, ResourceWarning, source=self, stacklevel=2)

    def limit(self, timeout: Timeout, *, for_upload: bool = False, polls: bool = False) -> TimeLimit:
        """Return the time limit of one call.

        Args:
            timeout: seconds; None is without limit; the default is the client's.
            for_upload: whether the client's is for the time without progress.
            polls: whether 0 makes sense, since there may be nothing to wait for.

        Raises:
            TypeError, PieValueError: it can't be a time limit.
        """
        if isinstance(timeout, Default):
            return TimeLimit(self._timeout, stall=for_upload)
        return TimeLimit(check_polling_timeout(timeout) if polls else check_timeout(timeout))

    def install_limit(self) -> TimeLimit:
        """Return the time limit for the upload of a function: the client's, but not less than a server needs."""
        return TimeLimit(None if self._timeout is None else max(self._timeout, INSTALL_TIMEOUT))

    @property
    def closed(self) -> bool:
        """Whether there is no connection: not yet, not any more, or lost (and not being restored)."""
        connection = self.connection
        return connection is None or connection.session.state is State.CLOSED

    # --- connecting ---------------------------------------------------------------------------------------

    def connect(self) -> None:
        """See :meth:`PieClient.connect`."""
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
                # A signal may have come when there was a connection already, which nobody knew of yet.
                if self._opening is not None:
                    self._opening.abort()
                raise
            with self._lock:
                self._opening = None
                if self._closings == closings:
                    self.connection = connection
                    return
        connection.session.close()
        raise PieConnectionError("the client was closed while it was connecting")

    def _set_opening(self, session: Session) -> None:
        """Remember the session that is being opened, so that close() can end it."""
        with self._lock:
            self._opening = session

    def _open(
        self,
        timeout: float | None,
        predecessor: Connection | None = None,
        announce: Callable[[Session], None] = lambda session: None,
    ) -> Connection:
        """Make a connection.

        Args:
            timeout: seconds.
            predecessor: the connection that this one is to replace.
            announce: called with the session before it is opened.
        """
        endpoint = Endpoint(
            self._server_uri,
            protocol=self._protocol,
            identity=self._identity,
            timeout=timeout,
            headers=self._headers,
            ssl_context=self._ssl_context,
        )
        # Weakly, since the reader thread holds on to it.
        reference = weakref.ref(self)

        def on_lost(session: Session, error: PieConnectionError) -> None:
            _connection_lost(reference, session, error)

        session = Session(
            endpoint,
            websocket_options=self._websocket_options,
            max_blob_size=self._max_blob_size,
            memory=self._memory,
            predecessor=None if predecessor is None else predecessor.session,
            on_lost=on_lost if self._reconnect else None,
        )
        programs = Programs(session, None if predecessor is None else predecessor.programs)
        connection = Connection(session, Authentication(session), programs, Functions(session, programs))
        announce(session)
        session.open()
        return connection

    # --- reconnecting -------------------------------------------------------------------------------------

    def begin_reconnecting(self, session: Session) -> Reconnector | None:
        """Return a reconnector for a session that was lost, if it is the one that the client uses."""
        reference = weakref.ref(self)
        with self._lock:
            connection = self.connection
            if connection is None or connection.session is not session:
                return None
            self._reconnector = Reconnector(
                self._reconnect_timeout,
                connect=lambda timeout, announce: _connect_again(reference, connection, timeout, announce),
                adopt=lambda new: _adopt(reference, connection, new),
            )
            return self._reconnector

    def connect_again(
        self, lost: Connection, timeout: float | None, announce: Callable[[Session], None]
    ) -> Connection:
        """Make a connection that is to replace ``lost``, and authenticate as that one was."""
        limits = [limit for limit in (timeout, self._connect_timeout) if limit is not None]
        new = self._open(min(limits, default=None), lost, announce)
        lost.authentication.repeat_on(new.authentication, TimeLimit(timeout))
        return new

    def adopt(self, lost: Connection, new: Connection) -> bool:
        """Use a new connection in place of one that was lost. False if the new one is lost as well.

        Raises:
            UnwantedError: nobody wants it any more.
        """
        with self._lock:
            if self.connection is not lost or self._is_abandoned:
                raise UnwantedError("the client was closed")
            if not new.session.own_instances():
                return False
            self.connection = new
            self._reconnector = None
        new.session.counters.reconnects += 1
        return True

    # --- closing ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """See :meth:`PieClient.close`."""
        with self._lock:
            connection, self.connection = self.connection, None
            reconnector, self._reconnector = self._reconnector, None
            opening, self._opening = self._opening, None
            self._closings += 1
        if reconnector is not None:
            reconnector.stop()
        if opening is not None:
            opening.abort()
        if connection is not None:
            connection.session.close()

    def _abandon(self) -> None:
        """End the connection without the closing handshake. For the finalizer: neither waits nor takes a lock."""
        self._is_abandoned = True  # first, for adopt()
        connection = self.connection
        if connection is not None:
            connection.session.abort()

    # --- the connection, for whoever wants to use it ------------------------------------------------------

    def connected(self, method: str) -> Connection:
        """Return the connection, if there is one, lost or not.

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

    def unauthenticated(self, method: str) -> Connection:
        """Return a connection on which to authenticate: a new one if an attempt on this one has failed for good.

        Raises:
            PieConnectionError: there is none, or it was made before a fork, or no new one can be made.
        """
        connection = self.connected(method)
        if connection.authentication.is_spent:
            with self._renew_lock:
                connection = self.connected(method)
                if connection.authentication.is_spent:  # else another thread was quicker
                    reconnector = self._reconnector
                    if reconnector is not None:  # the server has hung up already
                        reconnector.stop()
                    connection.session.close()
                    self.connect()
                    connection = self.connected(method)
        return connection

    def authenticated(self, method: str, limit: TimeLimit) -> Connection:
        """Return the authenticated connection. Servers drop unauthenticated ones without an error.

        Blocks while a lost connection is being restored.

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

    def session_of(self, instance_id: str, session: Session, method: str, limit: TimeLimit) -> Session:
        """Return the session that an instance is attached to, once it may be used.

        Args:
            instance_id: which instance.
            session: the one that it was attached to before.
            method: the client's method, for error messages.
            limit: for how long to wait for a reconnection.

        Raises:
            PieTimeoutError, PieConnectionError: as :meth:`authenticated`.
        """
        if _wait_until_restored(session, method, limit):
            restored = self.connected(method).session
            if restored.router.has_instance(instance_id):
                session = restored
        session.check()
        return session

    def probe(self, silences: Iterable[Silence]) -> None:
        """Ask the server whether silent instances still run; see :meth:`Probes.ask`. Never waits."""
        connection = self.connection
        if connection is not None:
            connection.session.probes.ask(silences)

    def forget(self, instance_id: str, events: EventQueue) -> None:
        """Drop the events of an instance that is being collected. Takes no lock: finalizers run anywhere."""
        connection = self.connection
        if connection is not None:
            connection.session.router.forget(instance_id, events)


def _wait_until_restored(session: Session, method: str, limit: TimeLimit) -> bool:
    """If a session is lost but being restored, wait for the end of that. Return whether it was."""
    if session.error is None or not session.may_be_restored:
        return False
    if not session.wait_until_closed(limit.left()):
        raise limit.expired(method, "the connection was lost, and not restored")
    return True


# The reader thread and the reconnector call these. They hold the manager weakly, and only for a moment.

_Reference = weakref.ReferenceType[ConnectionManager]


def _connection_lost(reference: _Reference, session: Session, error: PieConnectionError) -> None:
    manager = reference()
    reconnector = None if manager is None else manager.begin_reconnecting(session)
    del manager
    if reconnector is not None:
        reconnector.run(session, error)


def _connect_again(
    reference: _Reference,
    lost: Connection,
    timeout: float | None,
    announce: Callable[[Session], None],
) -> Connection:
    manager = reference()
    if manager is None:
        raise UnwantedError("the client is gone")
    return manager.connect_again(lost, timeout, announce)


def _adopt(reference: _Reference, lost: Connection, new: Connection) -> bool:
    manager = reference()
    if manager is None:
        raise UnwantedError("the client is gone")
    return manager.adopt(lost, new)
