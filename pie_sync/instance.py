"""A running program, as its client sees it."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Generic

from ._connection.instances import terminate
from ._connection.validation import check_message
from ._protocol import ProcessProtocol
from ._session.event_queue import MESSAGE
from ._session.payloads import TEXT_IS_A_PATH, open_payload
from ._session.probes import Silence, first_nap
from ._session.uploads import Confirmation
from ._support.time_limits import DEFAULT, Timeout, acquire, check_polling_timeout, deadline_after, time_left
from .errors import AttachError, InstanceEnded, InstanceFailed, PieTimeoutError, TerminateError
from .events import CompletedInstance, Event, LaunchRecord, R_co

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._connection.manager import ConnectionManager
    from ._session.event_queue import Entry, EventQueue
    from ._session.payloads import PayloadSource
    from ._session.session import Session
    from ._session.uploads import Progress
    from ._support.time_limits import TimeLimit
    from .events import Data

__all__ = ["Instance"]

_LOCKED_UP = (
    "all bytes sent, but not confirmed (servers up to Pie 0.2 lock up in upload_blob: the program has the blob;"
    " open a new connection, for this one answers nothing more, and terminate the instance over that)"
)


class Instance(Generic[R_co]):
    """A running program. Made by :meth:`PieClient.launch_instance` and its siblings, not by hand.

    Iterate over it to get everything that it sends, up to its end::

        for event, data in instance:
            ...

    All methods may be called from any thread. Several threads may receive from one instance: each event goes to
    exactly one of them.

    Servers can lose the end of an instance. So while somebody waits for one that has been silent for a second, the
    client asks now and then whether it still runs, which makes no wait longer. One that the server does not know
    any more ends with :attr:`Event.ServerError`. (Instance protocol: an attach that is refused tells that. Process
    protocol: the list does, in which an instance that has ended may stay; then only a ``timeout`` ends the wait.)

    When the connection is lost, everything that had arrived is handed out first; then receiving raises
    :exc:`PieConnectionError`. The server keeps the program running, up to Pie 0.2 with its output: connect again
    and call :meth:`PieClient.attach_instance` with its :attr:`id`. (Losing the connection does not end an
    instance: protocol, "Life of an instance". Pie 0.5 is the exception: it ends what was attached.)
    """

    # For __del__, in case that __init__ is interrupted.
    _events: EventQueue | None = None

    def __init__(
        self,
        manager: Any,
        session: Any,
        instance_id: str,
        events: Any,
        launch: LaunchRecord | None = None,
    ) -> None:
        # (The types of the arguments are not told above, since they are no part of the API.)
        self._manager: ConnectionManager = manager
        self._session: Session = session
        self._id = instance_id
        self._events = events
        self._launch = launch
        # What recv() calls for each event, looked up once. A detached instance finds nothing there.
        self._take: Callable[[], Entry] = (deque() if events is None else events.queue).popleft
        # While the instance is silent, and somebody waits for it: what the server says of that.
        self._silence: Silence | None = None
        # What wait() has received so far: kept when it times out, so that the next wait() goes on from there.
        self._collected: list[tuple[Event, Data]] | None = None
        # Serialises wait(): two at once get the same result.
        self._wait_lock = threading.Lock()

    def __del__(self) -> None:
        # Nobody can receive its events any more: without this they'd be kept until the connection ends.
        if self._events is not None:
            self._manager.forget(self._id, self._events)

    def __repr__(self) -> str:
        state = "detached" if self._events is None else "finished" if self.finished else "attached"
        return f"<Instance {self._id} {state}>"

    @property
    def id(self) -> str:
        """The instance's UUID, by which other connections can attach to it."""
        return self._id

    @property
    def finished(self) -> bool:
        """Whether the terminal event has been received: nothing more will come.

        As long as events are waiting to be received it is False, so that ``while not instance.finished:
        instance.recv()`` misses nothing.
        """
        return self._events is not None and self._events.terminal is not None and self._events.exhausted

    def recv(self, timeout: float | None = None) -> tuple[Event, Data]:
        """Receive the next event. Blocks until there is one.

        Args:
            timeout: for how many seconds at the most. None, the default, waits without limit; 0 polls.

        Returns:
            The kind of event and its data: a :class:`Blob` for :attr:`Event.Blob`, else text.

        Raises:
            PieTimeoutError: nothing came in time.
            InstanceEnded: the terminal event was received already.
            ProtocolError: the server sent a malformed message about this instance; receiving can go on.
            PieConnectionError: the connection is lost, and everything that had arrived was received.
            AttachError: the instance was launched detached.
        """
        if timeout is not None:
            timeout = check_polling_timeout(timeout)
        try:
            # What is there already is taken without further ado: see EventQueue.get.
            entry = self._take()
        except IndexError:
            return self._recv_slowly(self._attached("recv"), timeout)
        return entry if isinstance(entry, tuple) else (MESSAGE, entry)

    def _recv_slowly(self, events: EventQueue, timeout: float | None) -> tuple[Event, Data]:
        # A child that was forked has no reader thread: nothing would ever come.
        self._session.check_process()
        nap = first_nap(timeout)
        try:
            item: tuple[Event, Data] | None = events.get(timeout=nap)
        except queue.Empty:
            item = None
        if item is None:
            item = self._recv_silent(events, timeout, nap)
        if self._silence is not None:
            self._silence.is_over = True
            self._silence = None
        return item

    def _recv_silent(self, events: EventQueue, timeout: float | None, waited: float) -> tuple[Event, Data]:
        """Wait on for an instance that was silent for ``waited`` seconds, and ask the server now and then."""
        now = monotonic()
        deadline = None if timeout is None else now - waited + timeout
        silence = self._silence_since(now - waited)
        while True:
            if now >= silence.due:
                self._manager.probe([silence])
            if deadline is not None and now >= deadline:
                raise self._timed_out(f"no event within {timeout} s")
            nap = silence.nap(now) if deadline is None else min(silence.nap(now), deadline - now)
            try:
                item: tuple[Event, Data] = events.get(timeout=nap)
            except queue.Empty:
                now = monotonic()
            else:
                return item

    def _silence_since(self, since: float) -> Silence:
        """Return what is known of the instance's silence, which has begun then unless it had before."""
        silence = self._silence
        if silence is None:
            silence = self._silence = Silence(self._id, self._attached("recv"), since)
        return silence

    def _timed_out(self, what: str) -> PieTimeoutError:
        """Return the error to raise when a time limit is over. ``what`` says what did not happen in time."""
        error = PieTimeoutError(f"instance {self._id}: {what}{self._remark()}")
        error.instance_id = self._id
        return error

    def _remark(self) -> str:
        """Return what an error should add of an instance that is silent though it is listed; else nothing."""
        return "" if self._silence is None else self._silence.remark()

    def __iter__(self) -> Iterator[tuple[Event, Data]]:
        """Receive every event in order, the terminal one included; then stop. See :meth:`events`."""
        return self.events()

    def events(self, timeout: float | None = None) -> Iterator[tuple[Event, Data]]:
        """Iterate over the events, up to and with the terminal one.

        Each step blocks like :meth:`recv` and raises what it raises, but for ``InstanceEnded``, which ends the
        iteration. Iterating again, after a ``break`` or an error, goes on with the next event.

        Args:
            timeout: for how many seconds at the most to wait for *each* event. None waits without limit.
        """
        events = self._attached("events") if self._events is None else self._events
        return self._iterate(events, check_polling_timeout(timeout))

    def _iterate(self, events: EventQueue, timeout: float | None) -> Iterator[tuple[Event, Data]]:
        # The hot path of the library: one event costs a popleft and a yield here.
        popleft = events.queue.popleft
        while True:
            try:
                item = popleft()
                if type(item) is not tuple:
                    item = MESSAGE, item  # as in EventQueue.get
            except IndexError:
                if events.exhausted and events.terminal is not None:
                    return
                try:
                    item = self._recv_slowly(events, timeout)
                except InstanceEnded:  # another thread has taken the last event
                    return
            yield item

    def wait(self, timeout: float | None = None, *, check: bool = False) -> CompletedInstance[R_co]:
        """Receive everything up to the end. Blocks until the instance has ended.

        After a time-out nothing is lost: call it again. Called after the end, it returns the same result. Events
        that were received otherwise (:meth:`recv`, iteration) are not part of the result.

        Args:
            timeout: for how many seconds at the most, in all. None waits without limit.
            check: raise ``InstanceFailed`` unless the instance has ``Completed``.

        Raises:
            PieTimeoutError: it has not ended in time.
            InstanceFailed: see ``check``. Its ``completed`` has the result.
            ProtocolError: the server sent a malformed message about this instance; waiting can go on.
            PieConnectionError: the connection was lost before the end.
            AttachError: the instance was launched detached.
        """
        events = self._attached("wait")
        deadline = deadline_after(check_polling_timeout(timeout))
        acquired: list[bool] = []
        try:
            if not acquire(self._wait_lock, deadline, acquired):
                raise self._timed_out(f"not ended within {timeout} s")
            if self._collected is None:
                self._collected = []
            while True:
                self._collected.append(self._recv_slowly(events, time_left(deadline)))
        except InstanceEnded:
            assert events.terminal is not None
            received = self._collected or []
            if not received or not received[-1][0].terminal:  # the end was received otherwise
                received = [*received, events.terminal]
            completed = CompletedInstance.from_events(received, self._id, self._launch, events.ended)
        except PieTimeoutError:
            raise self._timed_out(f"not ended within {timeout} s") from None
        finally:
            if True in acquired:
                self._wait_lock.release()
        if check and completed.event is not Event.Completed:
            raise InstanceFailed(self._id, completed)
        return completed

    def send(self, message: str, *, timeout: Timeout = DEFAULT) -> None:
        """Send a text to the program. Blocks only while the server does not read.

        The server does not confirm it (protocol: ``signal_instance``). A message that comes after the program's
        end is lost, and so is one sent when that end has arrived here but was not received yet: whether the two
        cross on the line or in a queue makes no difference, and the next :meth:`recv` tells of the end.

        Args:
            message: the text.
            timeout: for how many seconds at the most; 0 sends only if there is room; None is without limit;
                default: the client's ``timeout``.

        Raises:
            InstanceEnded: the terminal event was received already.
            PieValueError: it is longer than the server takes (Pie 0.5: 7 MiB; servers up to 0.4: 64 MiB).
            PieTimeoutError: it could not be sent in time.
            PieConnectionError: the connection is lost.
            AttachError: the instance was launched detached.
        """
        self._attached("send")
        if self.finished:
            self._check_running("send")
        check_message(message)
        limit = self._manager.limit(timeout, polls=True)
        session = self._current_session("send", limit)
        session.send(session.protocol.signal(self._id, message), deadline=limit.deadline())

    def upload_blob(self, blob: PayloadSource, *, progress: Progress = None, timeout: Timeout = DEFAULT) -> None:
        """Send bytes to the program. Blocks until the server has them all.

        **Servers up to Pie 0.2 lock up their side of the connection** (seen on each of them): they give the blob
        to the program, but never confirm it, and answer nothing more on this connection. That is a
        ``PieTimeoutError`` which says so. Make a new client then, and terminate the instance over that.

        On the process protocol the server confirms nothing, **and drops them unless the program is waiting in
        receive_file at that moment** (protocol: ``transfer_file``). No message before that is proof that it waits
        already: let it answer to the blob, and send again if it doesn't.

        Args:
            blob: bytes-like, a path, or a binary file object (sent from its position to its end). A str is a
                path: a text itself goes as ``text.encode()``. Files are read piecewise: twice, the first time for
                their hash.
            progress: called as ``progress(sent_bytes, total_bytes)`` after each chunk of 256 KiB.
            timeout: seconds for the whole call; None is without limit. Default: the client's ``timeout``, as
                the longest time *without progress*. The confirmation after the last byte is never waited for
                longer than the client's ``timeout``.

        Raises:
            UploadError: the server refused it.
            InstanceEnded: the instance has ended.
            PieTimeoutError: it was not done in time.
            PieConnectionError: the connection is lost.
            AttachError: the instance was launched detached.
            OSError: the file can't be read.
        """
        self._check_running("upload_blob")
        limit = self._manager.limit(timeout, for_upload=True)
        session = self._current_session("upload_blob", limit)
        with open_payload(blob, TEXT_IS_A_PATH) as payload:

            def head(corr_id: int, index: int, total: int, size: int) -> bytes:
                return session.protocol.blob_chunk(corr_id, self._id, payload.hash, index, total, size)

            session.uploads.upload(
                "upload_blob",
                payload,
                head,
                # Servers keep blobs apart by their hash alone: the same bytes twice at once break each other.
                slot=f"blob {payload.hash}",
                limit=limit,
                progress=progress,
                confirmed=session.protocol.confirms_blobs,
                # Nothing else shows the lock-up: the server answers WebSocket pings, and the program goes on.
                confirmation=Confirmation(
                    self._manager.limit(DEFAULT, for_upload=True), _LOCKED_UP, locks_up=True
                ),
            )

    def terminate(self, *, timeout: Timeout = DEFAULT) -> None:
        """Ask the server to end the program: its last event will be :attr:`Event.Aborted`.

        Blocks until the server has taken note, not until that event. Does nothing if the instance has ended.

        Args:
            timeout: seconds; None is without limit; default: the client's ``timeout``.

        Raises:
            TerminateError: the server refused.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        if self._events is not None and self._events.terminal is not None:
            return
        try:
            limit = self._manager.limit(timeout)
            terminate(self._current_session("terminate", limit), self._id, limit)
        except TerminateError as error:
            # It has ended meanwhile: the process protocol says so, the instance protocol doesn't care.
            if error.reason != ProcessProtocol.NO_SUCH_PROCESS:
                raise

    def _current_session(self, method: str, limit: TimeLimit) -> Session:
        """Return the session that the instance is attached to. Blocks while it is being restored."""
        self._session = self._manager.session_of(self._id, self._session, method, limit)
        return self._session

    # --- for run and map ----------------------------------------------------------------------------------

    def _watch(self) -> Silence:
        """Return what is known of the instance's silence, for somebody who waits for its end."""
        return self._silence or self._silence_since(monotonic())

    @property
    def _is_running(self) -> bool:
        """Whether the instance is attached, and its end has not arrived."""
        return self._events is not None and self._events.terminal is None

    def _completed(self, received: Iterable[tuple[Event, Data]], launch: LaunchRecord) -> CompletedInstance[Any]:
        """Return the result of the instance, of all that was received from it."""
        assert self._events is not None
        return CompletedInstance.from_events(received, self._id, launch, self._events.ended)

    # ------------------------------------------------------------------------------------------------------

    def _attached(self, method: str) -> EventQueue:
        if self._events is None:
            raise AttachError(
                method,
                f"instance {self._id} was launched detached;"
                " attach to it first: instance = client.attach_instance(instance.id)",
            )
        return self._events

    def _check_running(self, method: str) -> None:
        terminal = self._attached(method).terminal
        if terminal is not None:
            event, message = terminal
            raise InstanceEnded(f"{method}: instance {self._id} has ended: {event.name}: {message[:200]}")
