"""One connection and everything that goes on over it.

A session owns the reader thread, which reads, and does three things with what the server says: it hands answers
to the calls that wait for them, puts events into the queues of their instances, and puts blobs together. All other
threads only send, and wait.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Callable

from .._protocol import Repeats, UndetectedProtocol
from .._protocol.messages import Abort, Answer, BadMessage, BlobChunk, InstanceList, Notice, Refusal
from .._support.counters import ClientStats, Counters
from .._transport.frames import BINARY, encode_frame
from .._transport.websocket import WebSocket
from ..errors import (
    InstanceEnded,
    PieConnectionError,
    ProtocolError,
    RequestError,
)
from ..events import Event
from .event_queue import ITEM_SIZE, MESSAGE, EventQueue
from .memory_limit import Backlog
from .pending_request import Call
from .pending_requests import Calls, again
from .transfers import BlobAssembler, TransferError
from .uploads import Uploader

if TYPE_CHECKING:
    from .._connection.endpoint import Endpoint
    from .._connection.reconnection import Restoration
    from .._protocol import Addressed, Protocol
    from .._support.time_limits import Limit
    from .._transport.frames import Buffer, Message
    from .event_queue import Item

__all__ = ["Session"]

logger = logging.getLogger("pie_sync.protocol")
connection_logger = logging.getLogger("pie_sync.connection")
transfer_logger = logging.getLogger("pie_sync.transfer")

#: The longest id of an instance. Servers use UUIDs. A limit, since ids are kept, and repeated in every error.
_MAX_ID_LENGTH = 1000

#: How many seconds close() waits for the closing handshake, and then for the reader thread.
_CLOSE_TIMEOUT = 1.0


class Session:
    """A connection with its reader thread. Everything may be called from any thread.

    Args:
        endpoint: makes the connection.
        websocket_options: for :class:`WebSocket`.
        max_blob_size: the most bytes of a blob from the server.
        max_buffered_bytes: the most memory for events that are not consumed; the rest goes to disk.
        before: the session that this one replaces, after its connection was lost.

    Attributes:
        endpoint: what is known of the server once there is a connection.
        counters: of this session and those that it replaces.
        calls: the requests that wait for their answers.
        uploader: for what is sent in chunks.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        websocket_options: dict[str, Any],
        max_blob_size: int,
        max_buffered_bytes: int,
        before: Session | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.counters: Counters = Counters() if before is None else before.counters
        self.calls = Calls()
        self.uploader = Uploader(self)
        self._protocol: Protocol | None = None
        self._decoder: Protocol | UndetectedProtocol = UndetectedProtocol()
        self._decode: Callable[[Any], Addressed[EventQueue]] = self._decoder.decode
        self._repeats: Repeats[EventQueue] | None = None
        self._websocket_options = websocket_options
        self._websocket: WebSocket | None = None
        self._process_id = os.getpid()
        self._blobs = BlobAssembler(max_blob_size)
        # Whether instances were forgotten of which the reader thread may have the beginning of a blob.
        self._has_forgotten = False
        # Events go to the queues in here. Only the reader thread adds; taking out is atomic.
        self._queues: dict[str, EventQueue] = {}
        self._backlog = Backlog(max_buffered_bytes)
        # Serialises: a restoration is set, or the connection is lost.
        self._lock = threading.Lock()
        # Shared with the session that this one replaces, where a caller may be about to claim something.
        self._unclaimed: dict[str, EventQueue] = {} if before is None else before._unclaimed
        self._lost: PieConnectionError | None = None
        self._closing = False
        # What to do when the connection is lost. Until it's known, the instances of a session that is being made
        # to replace another are kept.
        self._restoration: Restoration | None = None
        self._keeps_instances = False
        self._thread: threading.Thread | None = None
        # Held while the connection is made. The reader thread waits for that, and finds one behind it, or none.
        self._opening = threading.Lock()
        # Locked until nothing is read any more.
        self._reading = threading.Lock()
        self._reading.acquire()

    @property
    def protocol(self) -> Protocol:
        """The generation of the protocol that the server speaks. Only to be asked for once it is known."""
        assert self._protocol is not None
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Protocol) -> None:
        self._protocol = self._decoder = protocol
        self._repeats = Repeats(protocol)
        self._decode = self._repeats.decode

    @property
    def protocol_name(self) -> str | None:
        """The name of that generation, or None while it isn't known."""
        return self._decoder.name

    def stats(self) -> ClientStats:
        """Return what there is to know at this moment."""
        # One look at each, so that a thread that changes it in between doesn't matter.
        queues = self._queues.copy()
        return ClientStats(
            **vars(self.counters),
            events_queued={instance_id: events.qsize() for instance_id, events in queues.items()},
            spilled_bytes=self._backlog.spilled_bytes(),
            pending_requests=len(self.calls),
        )

    # --- the connection's life --------------------------------------------------------------------------

    def open(self) -> None:
        """Connect; blocks for as long as the endpoint allows. Not to be called again.

        The thread that calls this makes the connection, and the reader thread is started while the server makes up
        its answer: to hand the work over, and to wait for it, would take 0.1 ms more than the 0.6 that it takes.

        Raises:
            PieConnectionError: it can't be connected.
            PieConnectTimeoutError: not in time.
        """
        try:
            with self._opening:
                sock = self.endpoint.connect(meanwhile=self._start_reader)
                if len(self.endpoint.candidates) == 1:
                    self.protocol = self.endpoint.candidates[0]
                self._websocket = WebSocket(sock, counters=self.counters, **self._websocket_options)
            if self._closing:  # in the very last moment
                self._websocket.abort()
        except BaseException as error:  # Ctrl-C, too
            if self._websocket is None:
                self.endpoint.close()
                given_up = PieConnectionError("connecting was given up")
                self._lose(error if isinstance(error, PieConnectionError) else given_up)
                self._reading.release()
            else:
                self.abort()
            self._join_reader()
            raise

    def _start_reader(self) -> None:
        """Start the reader thread, unless that was done: an endpoint may have to ask twice."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name=f"pie-sync reader {self.endpoint.uri}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                # Ctrl-C came while threading held a lock of its own, to start the thread: it complains of that.
                raise error.__context__ from None
            raise

    @property
    def lost(self) -> PieConnectionError | None:
        """Why there is no connection any more; None while there is one."""
        return self._lost

    @property
    def restoration(self) -> Restoration | None:
        """What restores this session when its connection is lost; None if nothing does."""
        return self._restoration

    @property
    def is_being_restored(self) -> bool:
        """Whether the connection is lost, and going to be replaced by another one."""
        return self._lost is not None and self._restoration is not None and not self._restoration.finished

    def keep_instances(self, keep: bool = True) -> None:
        """Don't end the instances when the connection is lost: somebody is going to take them."""
        self._keeps_instances = keep

    def restore_with(self, restoration: Restoration) -> bool:
        """Set what is to happen when the connection is lost. False if it is lost already."""
        with self._lock:
            if self._lost is not None:
                return False
            self._restoration = restoration
            return True

    def take_instances(self) -> dict[str, EventQueue]:
        """Return the instances that have not ended, and forget them. When the connection is lost."""
        with self._reading:
            pass
        queues = dict(self._queues)
        self._queues.clear()
        return queues

    def close(self) -> None:
        """Say good-bye and end the connection: within 2 s, whatever the server does. Idempotent."""
        if self._process_id != os.getpid():
            return  # the connection belongs to the parent process, and goes on there
        self._closing = True
        if self._restoration is not None:
            self._restoration.stop()
        try:
            if self._websocket is not None:
                self._websocket.send_close()
                self._join_reader()
        finally:  # also when Ctrl-C interrupts it
            self.abort()
        self._join_reader()

    def abort(self) -> None:
        """End the connection at once, without waiting for anything."""
        if self._process_id != os.getpid():
            return
        self._closing = True
        self.endpoint.abort()
        if self._websocket is not None:
            self._websocket.abort()

    def _join_reader(self) -> None:
        """Wait until the reader thread has ended, for a second at the most. Not if this is it."""
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(_CLOSE_TIMEOUT)

    def _run(self) -> None:
        """The reader thread."""
        with self._opening:
            websocket = self._websocket
        if websocket is None:
            return  # it could not be connected
        try:
            while True:
                self._dispatch(websocket.read())
        except PieConnectionError as error:
            self._lose(PieConnectionError("the client was closed") if self._closing else error)
        except BaseException as error:
            # A defect of this library. Whoever waits must hear of it rather than wait for ever.
            logger.exception("the reader thread failed")
            failure = PieConnectionError(f"the reader thread failed: {error!r}")
            failure.__cause__ = error
            self._lose(failure)
        finally:
            self._reading.release()
            websocket.finish()
        if self._restoration is not None and not self._closing:
            assert self._lost is not None
            self._restoration.run(self, self._lost)

    def _lose(self, error: PieConnectionError) -> None:
        """End everything that waits for something from the server."""
        with self._lock:
            self._lost = error
            # A session that is being made to replace another gives its instances back, however it ends. From then
            # on it has a restoration of its own, until the user closes the client.
            keeps_instances = self._keeps_instances if self._restoration is None else not self._closing
        if not self._closing:
            connection_logger.info("%s: %s", self.endpoint.uri, error)
        self.calls.lose(error)
        if self._repeats is not None:
            self._repeats.clear()  # nothing is read any more, and the queues may go on to another session
        if not keeps_instances:
            for events in list(self._queues.values()):
                events.end(lambda: again(error))
            self._queues.clear()
        self._blobs.keep_only(())  # the rest of them will not come, not on another connection either

    @property
    def is_usable(self) -> bool:
        """Whether :meth:`check` would find nothing."""
        return self._lost is None and self._process_id == os.getpid()

    def check(self) -> None:
        """Raise what keeps this session from being used, if anything does.

        Raises:
            PieConnectionError: the connection is lost, or was made before a fork.
        """
        self.check_process()
        if self._lost is not None:
            raise again(self._lost)

    def check_process(self) -> None:
        """Raise unless this is the process that made the connection.

        A child that was forked has neither the reader thread nor a right to the socket, which it shares with
        its parent.

        Raises:
            PieConnectionError: it isn't.
        """
        if self._process_id != os.getpid():
            raise PieConnectionError(
                f"this client belongs to process {self._process_id} and can't be used in a child that was forked"
                " from it: make a new PieClient in the child"
            )

    # --- requests ---------------------------------------------------------------------------------------

    def call(
        self,
        name: str,
        encode: Callable[[int], bytes],
        limit: Limit,
        *,
        kind: str = "response",
        on_granted: Callable[[Answer], None] | None = None,
        refused: type[RequestError] = RequestError,
    ) -> Any:
        """Send a request and wait until it is granted.

        Args:
            name: the client's method, for error messages.
            encode: makes the message from a correlation id.
            limit: how long that may take.
            kind: see :class:`Call`.
            on_granted: see :class:`Call`.
            refused: what to raise if the server says no.

        Returns:
            The :class:`Answer`, or :class:`InstanceList`.

        Raises:
            RequestError: the server says no.
            PieTimeoutError: no answer in time. The answer is ignored if it comes later, except that an
                instance which it brings can still be claimed (:meth:`claim`).
            PieConnectionError: the connection is lost.
            ProtocolError: the answer makes no sense.
        """
        deadline = limit.deadline()
        call = Call(name, (kind,), on_granted)
        corr_id = self.calls.add(call)
        try:
            self.request(corr_id, name, encode(corr_id), deadline)
            if not call.wait(deadline):
                raise limit.expired(name, "no answer from the server")
        finally:
            self.calls.remove(corr_id, call)
        answer = call.result()
        if isinstance(answer, Answer) and not answer.ok:
            raise refused(name, answer.text)
        return answer

    def request(self, corr_id: int, name: str, message: bytes, deadline: float | None) -> None:
        """Send a request of one message; see :meth:`send`."""
        logger.debug("request %d: %s, %d bytes", corr_id, name, len(message))
        self._write(encode_frame(BINARY, message), 1, deadline)

    def request_by_any(self, messages: dict[int, bytes], name: str, *, deadline: float | None) -> None:
        """Send the same request in several forms, by their correlation ids, in one go; see :meth:`send`."""
        for corr_id, message in messages.items():
            logger.debug("request %d: %s, %d bytes", corr_id, name, len(message))
        frames = [encode_frame(BINARY, message) for message in messages.values()]
        self._write(b"".join(frames), len(frames), deadline)

    def send(self, *parts: Buffer, deadline: float | None) -> None:
        """Send one message, made of ``parts``. Blocks while the server does not read, until the deadline.

        Raises:
            PieTimeoutError: it could not be sent in time.
            PieConnectionError: the connection is lost.
        """
        self._write(encode_frame(BINARY, *parts), 1, deadline)

    def _write(self, frames: Buffer, count: int, deadline: float | None) -> None:
        self.check()
        assert self._websocket is not None
        try:
            self._websocket.send(frames, deadline, count)
        except PieConnectionError as error:
            # The reader thread knows better why: a close frame may say it.
            self._join_reader()
            raise (error if self._lost is None else again(self._lost)) from error

    # --- instances --------------------------------------------------------------------------------------

    def add_instance(self, instance_id: str, events: EventQueue | None = None) -> None:
        """Give an instance its queue. For ``on_granted``: called by the reader thread.

        Args:
            instance_id: its id.
            events: the queue that it had on a connection before this one; None makes a new one.

        Raises:
            ProtocolError: there is an instance of this id already, whose events must not go to another; or it is
                too long for one.
        """
        if len(instance_id) > _MAX_ID_LENGTH:
            raise ProtocolError(f"the server told an instance id of {len(instance_id)} characters")
        if instance_id in self._queues:
            raise ProtocolError(f"the server used the id of instance {instance_id} twice")
        if events is None:
            events = self._unclaimed[instance_id] = EventQueue()
        if self._repeats is not None:
            self._repeats.expect(instance_id, events)  # first: what is among the queues can be removed
        self._queues[instance_id] = events
        self._backlog.watch(events)
        logger.debug("instance %s: attached", instance_id)
        early, lost = self.calls.take_early(instance_id)
        end = early.pop()[1:] if early and isinstance(early[-1], tuple) and early[-1][1].terminal else None
        for decoded in early:
            if isinstance(decoded, BlobChunk):
                self._handle_chunk(decoded)
            else:
                self._backlog.put(events, [decoded[1:]])
        if lost:
            events.put_error(
                ProtocolError(
                    f"instance {instance_id} sent too much before the server told its id: {lost} events lost"
                )
            )
        if end is not None:
            self._backlog.put(events, [end])
            self._end_instance(instance_id, events, *end)

    def has_instance(self, instance_id: str) -> bool:
        """Whether this connection is attached to an instance."""
        return instance_id in self._queues

    def claim(self, instance_id: str) -> EventQueue | None:
        """Take over the queue of an instance which the server attached to this connection.

        It's there after a launch or an attach, also after one whose caller gave up too early: nothing that
        arrived since is lost. None if there is no such instance, or somebody has it already.
        """
        return self._unclaimed.pop(instance_id, None)

    def forget(self, instance_id: str, events: EventQueue) -> None:
        """Drop the events of an instance that nobody holds any more. Safe in a finalizer: takes no lock."""
        events.forgotten = True  # first, for a reconnection that is about to attach it
        if self._queues.get(instance_id) is events:
            self._remove_queue(instance_id)
            self._has_forgotten = True

    def _remove_queue(self, instance_id: str) -> None:
        if self._repeats is not None:
            self._repeats.forget(instance_id)
        self._queues.pop(instance_id, None)  # then: until it's gone, no other queue can be expected

    def drop_forgotten(self) -> None:
        """Drop what was forgotten while another session was being replaced by this one."""
        for instance_id, events in self._queues.copy().items():
            if events.forgotten:
                self.forget(instance_id, events)

    # --- what the server says ---------------------------------------------------------------------------

    def _dispatch(self, messages: list[Message]) -> None:
        """Handle what one read brought, in its order. Who waits for events is woken once, after all of it."""
        decode = self._decode
        if self._has_forgotten:
            self._has_forgotten = False
            self._blobs.keep_only(self._queues)
        waking: set[EventQueue] = set()
        staging: dict[EventQueue, list[Item]] = {}
        size = 0
        try:
            for message in messages:
                try:
                    if isinstance(message, bytes):
                        decoded = decode(message)
                    elif message[0] == BINARY:
                        decoded = decode(message[1])
                    else:
                        self._hand_over(staging)
                        self._handle_text(message[1])
                        continue
                    if type(decoded) is not tuple:
                        if staging:
                            self._hand_over(staging)
                        self._handle(decoded)
                        continue
                    receiver, event, text = decoded
                    events = receiver if type(receiver) is EventQueue else self._queue_of(decoded)
                    if events is None:
                        continue
                    # The hot path: an event that comes alone costs what one of a thousand in a row does.
                    if events.direct:
                        events.queue.append(text if event is MESSAGE else (event, text))  # see EventQueue
                        size += ITEM_SIZE + len(text)
                        if events.waiting:
                            waking.add(events)
                    else:
                        staging.setdefault(events, []).append((event, text))
                    if event.terminal:
                        if staging:
                            self._hand_over(staging)
                        assert isinstance(receiver, str)  # only messages come with a queue
                        self._end_instance(receiver, events, event, text)
                except BadMessage as bad:
                    self._hand_over(staging)
                    self._complain(bad)
        finally:
            if staging:
                self._hand_over(staging)
            for events in waking:
                events.wake()
            if size:
                self._backlog.grown(size)

    def _hand_over(self, staging: dict[EventQueue, list[Item]]) -> None:
        """Put the events that have their place behind something else, those of each instance together."""
        while staging:
            self._backlog.put(*staging.popitem())

    def _end_instance(self, instance_id: str, events: EventQueue, event: Event, text: str) -> None:
        logger.debug("instance %s: %s", instance_id, event.name)
        events.terminal = event, text
        events.end(partial(_ended, instance_id, event, text))
        self._remove_queue(instance_id)
        self._blobs.forget(instance_id)

    def _handle(self, decoded: Any) -> None:
        if type(decoded) is Answer or type(decoded) is InstanceList:
            self.calls.answer(decoded)
        elif isinstance(decoded, BlobChunk):
            self._handle_chunk(decoded)
        elif isinstance(decoded, Notice):
            logger.debug("the server says: %s", decoded.text[:1000])
        elif isinstance(decoded, Abort):
            assert self._websocket is not None
            self._websocket.send_close()
            raise PieConnectionError(
                f"the server ended all streams of events: {decoded.text!r} (pie-server 0.5.2 does this to all its"
                " clients when an inferlet sends an event of 8 MiB or more)"
            )

    def _queue_of(self, decoded: Any) -> EventQueue | None:
        """Find the queue of an event by the id of its instance. Without one, keep the event, perhaps."""
        try:
            events = self._queues.get(decoded[0])
        except TypeError:
            raise BadMessage("an event with an instance id that can't be one") from None
        if events is None:
            self._keep_early(decoded[0], decoded)
        return events

    def _keep_early(self, instance_id: str, decoded: Any) -> None:
        """Keep what came of an unknown instance: perhaps the answer that tells of it is on its way.

        (Process protocol: "Events of a process may arrive before the answer to its launch".) Otherwise it's an
        instance that nobody holds any more.
        """
        if type(instance_id) is not str or len(instance_id) > _MAX_ID_LENGTH:
            raise BadMessage("an event with an instance id that can't be one: it is no text, or too long")
        self.calls.keep_early(instance_id, decoded)

    def _handle_text(self, text: str) -> None:
        decoded = self._decoder.decode_text(text)
        if isinstance(decoded, Refusal):
            logger.warning("the server could not understand a message: %s", decoded.text[:1000])
            self.calls.refuse(decoded.text)
        elif decoded is not None:
            self._handle(decoded)

    def _handle_chunk(self, chunk: BlobChunk) -> None:
        events = self._queues.get(chunk.instance_id)
        if events is None:
            self._keep_early(chunk.instance_id, chunk.kept())
            return
        try:
            blob = self._blobs.add(
                chunk.instance_id, chunk.blob_hash, chunk.index, chunk.total, chunk.data, chunk.name
            )
        except TransferError as error:
            events.put_error(ProtocolError(f"instance {chunk.instance_id}: {error}"))
            return
        if blob is not None:
            transfer_logger.debug(
                "instance %s: blob %s of %d bytes", chunk.instance_id, chunk.blob_hash, len(blob)
            )
            self._backlog.put(events, [(Event.Blob, blob)])

    def _complain(self, bad: BadMessage) -> None:
        """Tell of a message that makes no sense: to whom it concerns, else to the log."""
        error = ProtocolError(f"the server sent {bad}")
        if bad.corr_id is not None and self.calls.fail(bad.corr_id, error):
            return
        events = self._queues.get(bad.instance_id) if bad.instance_id is not None else None
        if events is not None:
            events.put_error(error)
            return
        logger.warning("ignored: %s", error)


def _ended(instance_id: str, event: Event, text: str) -> InstanceEnded:
    return InstanceEnded(f"instance {instance_id} has ended: {event.name}: {text[:200]}")
