"""One session: a connection, its reader thread, and its state from connecting to closed.

The reader thread reads, and hands what the server says to the :class:`Router`. All other threads only send, and
wait.
"""

from __future__ import annotations

import logging
import os
import threading
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol

from .._protocol.chunks import CHUNK_SIZE
from .._protocol.messages import Answer
from .._support.counters import ClientStats, Counters
from .._support.kept_errors import copy_of_error, without_frames
from .._support.signal_handlers import is_from_signal_handler, start_thread
from .._support.time_limits import time_left
from .._transport.frames import BINARY, FRAGMENT_SIZE, encode_frame, encode_frames, encode_message
from .._transport.websocket import WebSocket
from ..errors import PieConnectionError, PieValueError, RequestError
from .pending_request import PendingRequest
from .pending_requests import UNATTENDED
from .probes import Probes
from .router import Router, StreamsAborted
from .uploads import Uploads

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from .. import _protocol
    from .._support.time_limits import TimeLimit
    from .._transport.frames import Buffer
    from .._transport.tls import TlsSocket
    from .._transport.websocket import Frames
    from .memory_limit import MemoryLimit

__all__ = ["OnLost", "Session", "State"]

logger = logging.getLogger("pie_sync.protocol")
connection_logger = logging.getLogger("pie_sync.connection")

#: How many seconds close() may take in all. It promises 2; the rest is for a machine that is busy.
_CLOSE_TIMEOUT = 1.8

#: How many of them the closing handshake may take.
_HANDSHAKE_TIMEOUT = 1.0

#: The most bytes of a message that servers up to Pie 0.4 take, whatever its frames (measured).
_MESSAGE_LIMIT = 64 * 1024 * 1024

#: The same of pie-server 0.5.2. (Measured: it drops a longer one, and from 8 MiB on it ends the connection.)
_GATEWAY_MESSAGE_LIMIT = 7 * 1024 * 1024

#: How many seconds a thread that could not send waits at most for the reader thread to tell why.
_REASON_TIMEOUT = 1.0

#: The identifiers of the reader threads, of all sessions of the process. Nothing else must wait in these.
_reader_threads: dict[int, None] = {}

#: Called in the reader thread of a session that lost its connection, with that session and the reason. It may take
#: the session's instances over (:meth:`Router.take_instances`); those that it leaves end when it returns.
OnLost = Optional[Callable[["Session", PieConnectionError], None]]


class Server(Protocol):
    """Where a session connects to: :class:`Endpoint`."""

    uri: str
    candidates: tuple[_protocol.Protocol, ...]
    is_gateway: bool
    may_be_gateway: bool

    def connect(self, on_request_sent: Callable[[], None]) -> socket.socket | TlsSocket:
        """Return a connected socket, the handshake done."""

    def close(self) -> None:
        """Give the socket back, in the thread that connects."""

    def abort(self) -> None:
        """Make :meth:`connect` in another thread fail soon."""


class State(Enum):
    """The state of a session. Only :meth:`Session._change` changes it."""

    CONNECTING = "connecting"
    OPEN = "open"
    LOST = "lost, and being restored"
    CLOSED = "closed"


#: Which state may follow which.
_FOLLOWING = {
    State.CONNECTING: {State.OPEN, State.CLOSED},
    State.OPEN: {State.LOST, State.CLOSED},
    State.LOST: {State.CLOSED},
    State.CLOSED: set[State](),
}


class Session:
    """A connection with its reader thread. Everything may be called from any thread.

    The reader thread alone makes the transitions behind *open*, so that no signal handler can interrupt one. Other
    threads only ask for the end (:meth:`close`, :meth:`abort`).

    Args:
        endpoint: makes the connection.
        websocket_options: for :class:`WebSocket`.
        max_blob_size: the most bytes of a blob from the server.
        memory: bounds the memory of the events that are not consumed, over all connections of a client.
        predecessor: the session that this one is to replace, after its connection was lost.
        on_lost: see :data:`OnLost`. None: a lost connection closes the session.

    Attributes:
        endpoint: what is known of the server once there is a connection.
        counters: of this session and those that it replaces.
        router: the instances and the pending requests.
        uploads: sends what goes in chunks.
        probes: asks whether silent instances still run.
        is_authenticated: whether the server has let the user in.
    """

    def __init__(
        self,
        endpoint: Server,
        *,
        websocket_options: dict[str, Any],
        max_blob_size: int,
        memory: MemoryLimit,
        predecessor: Session | None = None,
        on_lost: OnLost = None,
    ) -> None:
        self.endpoint = endpoint
        self.counters: Counters = Counters() if predecessor is None else predecessor.counters
        self.router: Router = Router(
            max_blob_size=max_blob_size,
            memory=memory,
            predecessor=None if predecessor is None else predecessor.router,
        )
        self.uploads = Uploads(self, self.router.pending)
        self.probes = Probes(self)
        self.is_authenticated = False
        self._websocket_options = websocket_options
        self._on_lost = on_lost
        self._process_id = os.getpid()
        self._websocket: WebSocket | None = None
        self._thread: threading.Thread | None = None
        # Guards the state and the error that goes with it.
        self._lock = threading.Lock()
        self._state = State.CONNECTING
        self._error: PieConnectionError | None = None
        # Set once there is an error: when the connection is lost, or closed.
        self._lost = threading.Event()
        self._closed = threading.Event()
        # Whether the instances are this session's to end. While a reconnector prepares the session, they are not:
        # the reconnector ends them, or tries again with another session.
        self._owns_instances = predecessor is None
        # A request to the reader thread, set without a lock, since finalizers set it: don't restore, end.
        self._close_requested = False
        # Held while the connection is made. The reader thread waits for it, and finds a connection behind it, or
        # none.
        self._opening = threading.Lock()

    # --- state --------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the session is between connecting and closed."""
        return self._state

    @property
    def error(self) -> PieConnectionError | None:
        """Why there is no connection any more; None while there is one, or will be."""
        return self._error

    def _change(self, state: State, error: PieConnectionError | None = None) -> None:
        """Enter a state, and do what belongs to it. Does nothing where that state can't follow.

        Entering *lost* ends all pending requests. Entering *closed* ends them and all instances that are still
        here.
        """
        with self._lock:
            if state not in _FOLLOWING[self._state]:
                return
            self._state = state
            if self._error is None:
                self._error = error
            owns_instances = self._owns_instances
        if error is None:
            return
        self._lost.set()
        self.router.lose(error)
        if state is State.CLOSED:
            queues = self.router.take_instances()
            reason = _client_closed() if self._close_requested else error
            if owns_instances:
                for events in queues.values():
                    events.end(lambda: copy_of_error(reason))
            self._closed.set()

    def own_instances(self) -> bool:
        """Let the instances be this session's to end: it has replaced its predecessor. False if it is lost."""
        with self._lock:
            if self._state is not State.OPEN:
                return False
            self._owns_instances = True
            return True

    @property
    def may_be_restored(self) -> bool:
        """Whether a lost connection is restored rather than closed."""
        return self._on_lost is not None

    @property
    def protocol(self) -> _protocol.Protocol:
        """See :attr:`Router.protocol`."""
        return self.router.protocol

    @property
    def protocol_name(self) -> str | None:
        """See :attr:`Router.protocol_name`."""
        return self.router.protocol_name

    def wait_until_closed(self, timeout: float | None) -> bool:
        """Block until the session is closed, or ``timeout`` seconds are over. Return whether it is."""
        return self._closed.wait(timeout)

    def stats(self) -> ClientStats:
        """Return what can be told of the session at this moment. Never blocks."""
        return ClientStats(
            **vars(self.counters),
            events_queued=self.router.events_queued(),
            spilled_bytes=self.router.spilled_bytes(),
            unclaimed=self.router.unclaimed.events_queued(),
            pending_requests=len(self.router.pending),
        )

    # --- the connection -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect; blocks for as long as the endpoint allows. Not to be called again.

        The thread that calls open() also makes the connection; the reader thread starts while the server makes
        up its answer. Handing the work to the reader thread would take 0.1 ms more than the 0.6 ms that
        connecting takes.

        Raises:
            PieConnectionError: the server can't be connected to.
            PieConnectTimeoutError: not in time.
        """
        try:
            with self._opening:
                sock = self.endpoint.connect(on_request_sent=self._start_reader)
                self._websocket = WebSocket(
                    sock, counters=self.counters, farewell=self._farewell, **self._websocket_options
                )
                if len(self.endpoint.candidates) == 1:
                    self.router.protocol = self.endpoint.candidates[0]
                self._change(State.OPEN)
            if self._close_requested:  # in the very last moment
                self._websocket.abort()
        except BaseException as error:  # also what a signal handler raises
            if self._websocket is None:
                self.endpoint.close()
                given_up = PieConnectionError("connecting was given up")
                self._change(State.CLOSED, error if isinstance(error, PieConnectionError) else given_up)
            else:
                self.abort()
            self._join_reader(_HANDSHAKE_TIMEOUT)
            raise

    def _start_reader(self) -> None:
        """Start the reader thread, unless it runs: an endpoint may have to ask twice."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name=f"pie-sync reader {self.endpoint.uri}", daemon=True)
        start_thread(self._thread)

    def close(self) -> None:
        """Close the connection: within 2 s, whatever the server does. Idempotent."""
        if self._process_id != os.getpid():
            return  # the connection belongs to the parent process, and goes on there
        deadline = monotonic() + _CLOSE_TIMEOUT
        self._close_requested = True
        try:
            if self._websocket is not None:
                self._websocket.send_close()
                self._join_reader(min(_HANDSHAKE_TIMEOUT, deadline - monotonic()))
        finally:  # also when a signal handler raises
            self.abort()
        self._join_reader(deadline - monotonic())

    def abort(self) -> None:
        """End the connection at once. Neither waits nor takes a lock: finalizers call it."""
        if self._process_id != os.getpid():
            return
        self._close_requested = True
        self.endpoint.abort()
        if self._websocket is not None:
            self._websocket.abort()

    def _farewell(self) -> bytes:
        """Return a request to send right before the close frame; nothing if the server needs none."""
        if self.endpoint.is_gateway:
            return b""
        for protocol in (self.protocol,) if self.protocol_name else self.endpoint.candidates:
            farewell = protocol.farewell(UNATTENDED, is_authenticated=self.is_authenticated)
            if farewell:
                return farewell
        return b""

    def _join_reader(self, timeout: float) -> None:
        """Block until the reader thread has ended, or for ``timeout`` seconds. Not in the reader thread itself."""
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(max(0.0, timeout))

    def _run(self) -> None:
        """The reader thread."""
        _reader_threads[threading.get_ident()] = None
        try:
            with self._opening:
                websocket = self._websocket
            if websocket is not None:  # else open() raises what went wrong
                self._serve(websocket)
        finally:
            del _reader_threads[threading.get_ident()]

    def _serve(self, websocket: WebSocket) -> None:
        """Read until the connection is lost, and restore it or close the session."""
        error = self._read(websocket)
        try:
            is_restored = self._on_lost is not None and not self._close_requested
            self._change(State.LOST if is_restored else State.CLOSED, error)
            websocket.finish()
            if self._state is State.LOST and not self._close_requested:
                assert self._on_lost is not None
                self._on_lost(self, error)
        finally:
            self._change(State.CLOSED, error)

    def _read(self, websocket: WebSocket) -> PieConnectionError:
        """Read until the connection is lost, and return why."""
        try:
            while True:
                self.router.dispatch(websocket.read())
        except StreamsAborted as aborted:
            websocket.send_close()
            return PieConnectionError(str(aborted))
        except PieConnectionError as error:
            if self._close_requested:
                return _client_closed()
            connection_logger.info("%s: %s", self.endpoint.uri, error)
            return without_frames(error)
        except BaseException as error:
            # A defect of this library. Whoever waits must hear of it rather than wait for ever.
            logger.exception("the reader thread failed")
            failure = PieConnectionError(f"the reader thread failed: {error!r}")
            failure.__cause__ = error
            return failure

    # --- whether it can be used ---------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Whether :meth:`check` would raise nothing."""
        return self._error is None and self._process_id == os.getpid()

    def check(self) -> None:
        """Raise what keeps this session from being used, if anything does.

        Raises:
            PieConnectionError: the connection is lost, or was made before a fork.
        """
        self.check_process()
        if self._error is not None:
            raise copy_of_error(self._error)

    def check_process(self) -> None:
        """Raise unless this is the process that made the connection.

        A child that was forked has neither the reader thread nor a right to the socket, which it shares with
        its parent.

        Raises:
            PieConnectionError: this is another process.
        """
        if self._process_id != os.getpid():
            raise PieConnectionError(
                f"this client belongs to process {self._process_id} and can't be used in a child that was forked"
                " from it: make a new PieClient in the child"
            )

    def may_wait_here(self) -> bool:
        """Whether this thread may wait for an answer: no reader thread, and outside of the pending requests.

        For finalizers, which run wherever the garbage collector happens to. Does not wait, and takes no lock that
        may be held.
        """
        return threading.get_ident() not in _reader_threads and self.router.pending.is_usable_here()

    # --- requests -----------------------------------------------------------------------------------------

    def call(
        self,
        name: str,
        encode: Callable[[int], bytes],
        limit: TimeLimit,
        *,
        kind: str = "response",
        on_success: Callable[[Answer], None] | None = None,
        refused: type[RequestError] = RequestError,
    ) -> Any:
        """Send a request and wait until it has succeeded.

        Args:
            name: the client's method, for error messages.
            encode: makes the message from a correlation id.
            limit: how long that may take.
            kind: the type of message that answers it.
            on_success: see :class:`PendingRequest`.
            refused: what to raise if the server refuses.

        Returns:
            The :class:`Answer`, or :class:`InstanceList`.

        Raises:
            RequestError: the server refused.
            PieTimeoutError: no answer in time. The answer is ignored if it comes later, except that an
                instance which it brings can still be claimed (:meth:`Router.claim`).
            PieConnectionError: the connection is lost.
            ProtocolError: the answer makes no sense.
        """
        deadline = limit.deadline()
        request = PendingRequest(name, (kind,), on_success)
        pending = self.router.pending
        try:
            corr_id = pending.add(request)
            self.request(request, encode(corr_id), deadline)
            if not request.wait(deadline):
                raise limit.expired(name, self._no_answer())
        except BaseException:  # only then: an answered request is not pending any more
            pending.remove(request)
            raise
        answer = request.result()
        if isinstance(answer, Answer) and not answer.ok:
            raise refused(name, answer.text)
        return answer

    def _no_answer(self) -> str:
        """Return the reason why an answer did not come in time."""
        reason = "no answer from the server"
        culprit = self.uploads.locked_up_by
        if culprit is not None:
            reason += f" ({culprit} has locked up this connection: open a new one)"
        return reason

    def request(self, request: PendingRequest, message: bytes, deadline: float | None) -> None:
        """Send a pending request of one message; see :meth:`send`."""
        logger.debug("request %d: %s, %d bytes", request.corr_ids[-1], request.name, len(message))
        # Nobody asks whether a request that brings no instance was sent.
        on_begin = None
        if request.on_success is not None:
            on_begin = request.mark_as_sent
            self._expect_events()
        self._write(self._frames_of(message), 1, deadline, on_begin)

    def request_all(
        self, requests: Sequence[PendingRequest], messages: Sequence[bytes], deadline: float | None
    ) -> None:
        """Send several pending requests that bring instances, in one write; see :meth:`WebSocket.send`.

        None of the messages may be so long that it takes several frames: :meth:`request` sends such.
        """
        if logger.isEnabledFor(logging.DEBUG):
            for request, message in zip(requests, messages):
                logger.debug("request %d: %s, %d bytes", request.corr_ids[-1], request.name, len(message))

        def mark_as_sent() -> None:
            for request in requests:
                request.is_sent = True

        self._expect_events()
        self._write(encode_frames(messages), len(messages), deadline, mark_as_sent)

    def _expect_events(self) -> None:
        """Let what the server says unasked, from now on, be acknowledged at once if that makes it write sooner."""
        if self.router.protocol.writes_with_delay and self._websocket is not None:
            self._websocket.acknowledges_at_once = True

    def request_by_any(self, request: PendingRequest, messages: list[bytes], deadline: float | None) -> None:
        """Send a pending request in several forms, one for each of its correlation ids, in one write."""
        for corr_id, message in zip(request.corr_ids, messages):
            logger.debug("request %d: %s, %d bytes", corr_id, request.name, len(message))
        frames = [frame for message in messages for frame in encode_message(message)]
        self._write(b"".join(frames), len(messages), deadline, request.mark_as_sent)

    def send(self, *parts: Buffer, deadline: float | None) -> None:
        """Send one message, made of ``parts``. Blocks while the server does not read, until the deadline.

        Raises:
            PieValueError: it is longer than the server takes.
            PieTimeoutError: it could not be sent in time.
            PieConnectionError: the connection is lost.
        """
        self._write(self._frames_of(*parts), 1, deadline)

    def _frames_of(self, message: Buffer, *more: Buffer) -> Frames:
        """Return the frames of a message: several if it is long.

        Raises:
            PieValueError: it is longer than the server takes.
        """
        if len(message) <= FRAGMENT_SIZE - CHUNK_SIZE:  # (what follows is a chunk)
            return encode_frame(BINARY, message, *more)
        whole = b"".join((message, *more)) if more else message
        is_gateway = self.endpoint.is_gateway
        limit = _GATEWAY_MESSAGE_LIMIT if is_gateway else _MESSAGE_LIMIT
        if len(whole) > limit:
            servers = (
                "Pie 0.5 drops what is longer than" if is_gateway else "servers up to Pie 0.4 take no more than"
            )
            raise PieValueError(
                f"a message of {len(whole)} bytes is too long: {servers} {limit >> 20} MiB;"
                " send it in parts, or as a blob"
            )
        return encode_frame(BINARY, whole) if is_gateway else encode_message(whole)

    def post(self, message: bytes) -> bool:
        """Send one message without waiting: if the connection is busy, whoever uses it sends it along.

        From any thread, also in a finalizer: takes no lock that may be held. Without a connection, does nothing.

        Returns:
            Whether the message is sent already.
        """
        if self._websocket is None or not self.is_usable:
            return False
        # A finalizer in a reader thread may have come into the middle of its work with TLS, whose lock it holds
        # then. If two such threads wanted each other's lock, both would wait for ever.
        may_lock = threading.get_ident() not in _reader_threads
        return self._websocket.post(self._frames_of(message), may_lock=may_lock)

    def _write(
        self,
        frames: Frames,
        count: int,
        deadline: float | None,
        on_begin: Callable[[], None] | None = None,
    ) -> None:
        self.check()
        assert self._websocket is not None
        try:
            self._websocket.send(frames, deadline, count, on_begin)
        except PieConnectionError as error:
            if is_from_signal_handler(error):
                raise
            # The reader thread knows better why, and tells soon: a close frame may say it.
            if threading.current_thread() is not self._thread:
                left = time_left(deadline)
                self._lost.wait(_REASON_TIMEOUT if left is None else min(_REASON_TIMEOUT, left))
            raise (error if self._error is None else copy_of_error(self._error)) from error


def _client_closed() -> PieConnectionError:
    return PieConnectionError("the client was closed")
