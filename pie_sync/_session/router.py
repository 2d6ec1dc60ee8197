"""Routes what the server says: answers to pending requests, events to the queues of their instances."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from .._protocol import PrefixCache, ProtocolDetector
from .._protocol.messages import Abort, Answer, BadMessage, BlobChunk, InstanceList, Notice, Refusal, too_large
from .._transport.frames import BINARY
from ..errors import InstanceEnded, PieConnectionError, ProtocolError
from ..events import Event
from .blobs import BlobAssembler, BlobError
from .event_queue import MESSAGE, EventQueue, memory_size
from .pending_requests import PendingRequests
from .spill_file import ITEM_SIZE
from .unclaimed import UnclaimedInstances

if TYPE_CHECKING:
    from .._protocol import Addressed, Protocol
    from .._support.signal_safe_queue import SignalSafeQueue
    from .._transport.frames import Message
    from .event_queue import Item
    from .memory_limit import MemoryLimit

__all__ = ["Router", "StreamsAborted"]

T = TypeVar("T")

logger = logging.getLogger("pie_sync.protocol")
transfer_logger = logging.getLogger("pie_sync.transfer")

#: The longest id of an instance. Servers use UUIDs. A limit, since ids are kept, and repeated in every error.
_MAX_ID_LENGTH = 1000

#: The text of the terminal event of an instance that the server does not know any more.
_LOST_END = (
    "the server has lost the end of this instance: it does not know the instance any more, and has not said how it"
    " ended (hint: launch it again, if its work may be done twice)"
)

#: How many events, of how many characters in all, an instance may send that gets no queue: they count in no limit
#: of memory.
_MAX_SHORT_EVENTS, _MAX_SHORT_TEXT = 10, 1000

#: Of how many forgotten instances the ids are kept.
_MAX_FORGOTTEN = 10_000


class StreamsAborted(Exception):  # noqa: N818 - a state of the server
    """The server keeps the connection, but sends no events any more: the text says why."""


class Router:
    """The instances and the pending requests of one session. Messages come from its reader thread.

    Everything else may be called from any thread, except what says otherwise.

    Args:
        max_blob_size: the most bytes of a blob from the server.
        memory: bounds the memory of the events that are not consumed, over all connections of a client.
        predecessor: of the session that this one replaces, after its connection was lost.

    Attributes:
        pending: the requests that wait for their answers.
        unclaimed: the instances that were attached when nobody waited for them any more. Shared with the session
            that this one replaces.
    """

    def __init__(self, *, max_blob_size: int, memory: MemoryLimit, predecessor: Router | None = None) -> None:
        self.pending = PendingRequests()
        self._protocol: Protocol | None = None
        self._decoder: Protocol | ProtocolDetector = ProtocolDetector()
        self._decode: Callable[[Any], Addressed[EventQueue]] = self._decoder.decode
        self._prefixes: PrefixCache[EventQueue] | None = None
        self._blobs = BlobAssembler(max_blob_size)
        # Whether instances were forgotten of which the reader thread may have the beginning of a blob.
        self._has_forgotten = False
        # Their ids, up to so many, until they end: their events are no early events. A dict, as a set that keeps
        # the order would be; each use of it is one step.
        self._forgotten: dict[str, None] = {}
        # Events go to the queues in here. Only the reader thread adds; taking out is atomic.
        self._queues: dict[str, EventQueue] = {}
        # Those of them that came with the messages that are being dispatched.
        self._added: list[tuple[str, EventQueue]] = []
        # The answers among these messages that are kept for a moment, and what their instances, by their ids, have
        # sent since: if that is all, no queue is needed, which is a third of the work for a short instance.
        self._postponed: dict[str, tuple[Answer, list[tuple[Event, str]]]] = {}
        # Those that got something from the messages that are being dispatched; None while none are.
        self._to_wake: dict[SignalSafeQueue[Any], None] | None = None
        self._memory = memory
        self.unclaimed: UnclaimedInstances = UnclaimedInstances() if predecessor is None else predecessor.unclaimed

    # --- the protocol -------------------------------------------------------------------------------------

    @property
    def protocol(self) -> Protocol:
        """The generation of the protocol that the server speaks. Only to be asked for once it is known."""
        assert self._protocol is not None
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Protocol) -> None:
        self._protocol = self._decoder = protocol
        self._prefixes = PrefixCache(protocol)
        self._decode = self._prefixes.decode

    @property
    def protocol_name(self) -> str | None:
        """The name of that generation, or None while it isn't known."""
        return self._decoder.name

    # --- instances ----------------------------------------------------------------------------------------

    def add_instance(self, instance_id: str, events: EventQueue | None = None) -> EventQueue:
        """Give an instance its queue. For ``on_success``: called by the reader thread.

        Args:
            instance_id: its id.
            events: the queue, if somebody has it already. None makes a new one.

        Returns:
            The queue.

        Raises:
            ProtocolError: there is an instance of this id already, whose events must not go to another; or the id
                is too long.
        """
        if len(instance_id) > _MAX_ID_LENGTH:
            raise ProtocolError(f"the server told an instance id of {len(instance_id)} characters")
        if instance_id in self._queues:
            raise ProtocolError(f"the server used the id of instance {instance_id} twice")
        events = EventQueue() if events is None else events
        if self._forgotten:
            self.expect_instance(instance_id)
        self._queues[instance_id] = events
        self._added.append((instance_id, events))
        self._memory.watch(events)
        if self.pending.logs:
            logger.debug("instance %s: attached", instance_id)
        if self.pending.early.is_empty:
            return events
        early, lost = self.pending.take_early(instance_id)
        end = early.pop()[1:] if early and isinstance(early[-1], tuple) and early[-1][1].terminal else None
        for decoded in early:
            if isinstance(decoded, BlobChunk):
                self._handle_chunk(decoded)
            else:
                self._memory.put(events, [decoded[1:]])
        if lost is None:
            # Perhaps nothing more will come. Who waits must hear of it rather than wait for ever.
            events.end(partial(_unsure, instance_id))
        elif lost:
            events.put_error(
                ProtocolError(
                    f"instance {instance_id} sent too much before the server told its id: {lost} events lost"
                )
            )
        if end is not None:
            self._end_instance(instance_id, events, *end)
        return events

    def expect_instance(self, instance_id: str) -> None:
        """Keep early events of an instance, also if it was forgotten before. Call this before attaching to it."""
        self._forgotten.pop(instance_id, None)

    def has_instance(self, instance_id: str) -> bool:
        """Whether this connection is attached to an instance."""
        return instance_id in self._queues

    def has_queue(self, instance_id: str, events: EventQueue) -> bool:
        """Whether the events of an instance that this connection is attached to go to this queue."""
        return self._queues.get(instance_id) is events

    def end_lost(self, instance_id: str, events: EventQueue) -> None:
        """End an instance whose end the server has lost. Only for the reader thread."""
        if self.has_queue(instance_id, events):
            logger.warning("instance %s: the server has lost its end", instance_id)
            self._keep_no_early_events(instance_id)  # if something comes after all
            self._end_instance(instance_id, events, Event.ServerError, _LOST_END)

    def claim(self, instance_id: str) -> EventQueue | None:
        """Take over the queue of an instance which the server attached to this connection.

        There is one after a launch or an attach whose caller gave up too early: nothing that arrived since is
        lost. None if there is no such instance, or somebody has claimed it already.
        """
        return self.unclaimed.claim(instance_id)

    def forget(self, instance_id: str, events: EventQueue) -> None:
        """Drop the events of an instance that nobody holds any more. Safe in a finalizer: takes no lock."""
        events.forgotten = True  # first, for a reconnection that is about to attach to the instance
        if self._queues.get(instance_id) is events:
            self._keep_no_early_events(instance_id)
            if self._prefixes is not None:
                self._prefixes.forget(instance_id)  # before another queue can come for this id
            self._remove_queue(instance_id)
            self._has_forgotten = True

    def _keep_no_early_events(self, instance_id: str) -> None:
        if len(self._forgotten) < _MAX_FORGOTTEN:
            self._forgotten[instance_id] = None

    def _expect_added(self) -> None:
        """Be quick with the messages of the instances that were added, but for those that have ended already."""
        added, self._added = self._added, []
        for instance_id, events in added:
            if self._prefixes is not None and self._queues.get(instance_id) is events:
                self._prefixes.expect(instance_id, events)
                if self._queues.get(instance_id) is not events:  # a finalizer has just forgotten it
                    self._prefixes.forget(instance_id)

    def _remove_queue(self, instance_id: str) -> None:
        self._queues.pop(instance_id, None)
        if self._prefixes is not None:
            self._prefixes.forget(instance_id)  # behind that: the reader thread may be about to expect it

    def drop_forgotten(self) -> None:
        """Drop the instances that were forgotten, or ended, while this session was made to replace another one."""
        for instance_id, events in self._queues.copy().items():
            if events.forgotten:
                self.forget(instance_id, events)
        self.unclaimed.end_all_but(self._queues)

    # --- the end of the connection ------------------------------------------------------------------------

    def take_instances(self) -> dict[str, EventQueue]:
        """Hand out the queues of the instances that have not ended. When nothing is read any more."""
        queues = self._queues.copy()
        self._queues.clear()
        return queues

    def lose(self, error: PieConnectionError) -> None:
        """End the pending requests, and drop what is incomplete. When nothing is read any more."""
        self.pending.fail_all(error)
        if self._prefixes is not None:
            self._prefixes.clear()  # the queues may go on to another session
        self._blobs.keep_only(())  # the rest of incomplete blobs will not come, not on another connection either

    # --- counters -----------------------------------------------------------------------------------------

    def events_queued(self) -> dict[str, int]:
        """Return how many events wait in memory, for each instance."""
        # A copy is one step: other threads may change the dict in between two.
        return {instance_id: events.qsize() for instance_id, events in self._queues.copy().items()}

    def spilled_bytes(self) -> int:
        """Return how many bytes of events wait on disk."""
        return self._memory.spilled_bytes()

    # --- messages -----------------------------------------------------------------------------------------

    def dispatch(self, messages: list[Message]) -> None:
        """Route the messages of one read, in order. Whoever waits is woken once, last of all.

        Only for the reader thread. Whoever is woken needs the interpreter lock next, which this thread has until
        it waits for the next read: so it has nothing left to do but that.

        Raises:
            StreamsAborted: the server sends no events any more.
        """
        decode = self._decode
        self.pending.logs = logger.isEnabledFor(logging.DEBUG)
        if self._has_forgotten:
            self._has_forgotten = False
            self._blobs.keep_only(self._queues)
        waking: set[EventQueue] = set()
        self._to_wake = {}
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
                    if event.terminal:
                        if staging:
                            self._hand_over(staging)
                        assert isinstance(receiver, str)  # only messages come with a queue
                        self._end_instance(receiver, events, event, text)
                        size += text.__sizeof__()
                        continue
                    # The hot path: an event that comes alone costs what one of a thousand in a row does.
                    if events.fast_path:
                        events.queue.append(text if event is MESSAGE else (event, text))  # see EventQueue
                        size += text.__sizeof__()  # as fast as len(), and right for wide characters
                        if events.waiting:
                            waking.add(events)
                    else:
                        staging.setdefault(events, []).append((event, text))
                except BadMessage as bad:
                    self._hand_over(staging)
                    self._answer_postponed()
                    self._complain(bad)
                except MemoryError:
                    self._hand_over(staging)
                    self._answer_postponed()
                    self._complain(too_large(message if isinstance(message, bytes) else message[1]))
        finally:
            if staging:
                self._hand_over(staging)
            if self._postponed:
                self._answer_postponed()
            if self._added:
                self._expect_added()
            if size:
                self._memory.grown(size + ITEM_SIZE * len(messages))
            to_wake, self._to_wake = self._to_wake, None
            answered = self.pending.answered
            for events in waking:
                events.notify()
            for queue in to_wake:
                queue.wake()
            while answered:
                answered.pop().wake()

    def put(self, queue: SignalSafeQueue[T], item: T) -> None:
        """Put something into a queue, and wake its consumer now or behind the messages that are being dispatched.

        Only for reader threads.
        """
        if self._to_wake is None:
            queue.put(item)
        else:
            queue.put_without_waking(item)
            self._to_wake[queue] = None

    def _hand_over(self, staging: dict[EventQueue, list[Item]]) -> None:
        """Put the events that are not on the fast path, those of each instance together."""
        while staging:
            self._memory.put(*staging.popitem())

    def _end_instance(self, instance_id: str, events: EventQueue, event: Event, text: str) -> None:
        if self.pending.logs:
            logger.debug("instance %s: %s", instance_id, event.name)
        events.end(partial(_ended, instance_id, event, text), (event, text))
        self._remove_queue(instance_id)
        self._blobs.forget(instance_id)
        self.unclaimed.end(instance_id)

    def _handle(self, decoded: Any) -> None:
        if type(decoded) is Answer:
            if decoded.ok and self.pending.takes_end(decoded.corr_id) and self._may_postpone(decoded.text):
                self._postponed[decoded.text] = (decoded, [])
                return
            if self._postponed and decoded.text in self._postponed:  # the first one of an id is to have it
                self._answer_postponed()
            self.pending.answer(decoded)
            return
        if self._postponed:  # what comes behind an answer may need the queue of its instance
            self._answer_postponed()
        if type(decoded) is InstanceList:
            self.pending.answer(decoded)
        elif isinstance(decoded, BlobChunk):
            self._handle_chunk(decoded)
        elif isinstance(decoded, Notice):
            logger.debug("the server says: %s", decoded.text[:1000])
        elif isinstance(decoded, Abort):
            raise StreamsAborted(
                f"the server ended all streams of events: {decoded.text!r} (pie-server 0.5.2 does this to all its"
                " clients when an inferlet sends an event of 8 MiB or more)"
            )

    def _queue_of(self, decoded: Any) -> EventQueue | None:
        """Find the queue of an event by the id of its instance. Without one, perhaps keep the event."""
        try:
            events = self._queues.get(decoded[0])
        except TypeError:
            raise BadMessage("an event with an instance id that can't be one") from None
        if events is None:
            postponed = self._postponed.get(decoded[0])
            if postponed is None:
                self._keep_early(decoded[0], decoded)
            else:
                self._collect(*postponed, *decoded[1:])
        return events

    def _may_postpone(self, instance_id: str) -> bool:
        """Whether an instance that a launch brings is new in every respect, as they all should be."""
        if (
            instance_id in self._queues
            or instance_id in self._postponed
            or len(instance_id) > _MAX_ID_LENGTH
            or not self.pending.early.is_empty
        ):
            return False
        if self._forgotten:
            self.expect_instance(instance_id)
        return True

    def _collect(self, answer: Answer, events: list[tuple[Event, str]], event: Event, text: str) -> None:
        """Take an event of an instance without a queue."""
        events.append((event, text))
        if not event.terminal and len(events) < _MAX_SHORT_EVENTS:
            return
        del self._postponed[answer.text]
        size = len(text) if len(events) == 1 else sum(len(data) for _, data in events)
        if not event.terminal or size > _MAX_SHORT_TEXT:
            self._answer_with_queue(answer, events)
            return
        if self.pending.logs:
            logger.debug("instance %s: attached", answer.text)
            logger.debug("instance %s: %s", answer.text, event.name)
        self.pending.answer(answer, events)

    def _answer_postponed(self) -> None:
        """Settle the launches whose instances have not ended, which get their queues now."""
        postponed, self._postponed = self._postponed, {}
        for answer, events in postponed.values():
            self._answer_with_queue(answer, events)

    def _answer_with_queue(self, answer: Answer, events: list[tuple[Event, str]]) -> None:
        self.pending.answer(answer)
        queue = self._queues.get(answer.text)
        if queue is None:  # nobody wanted the launch any more
            for event, data in events:
                self._keep_early(answer.text, (answer.text, event, data))
            return
        terminal = events.pop() if events and events[-1][0].terminal else None
        try:
            if events:
                self._memory.put(queue, events)
        except MemoryError:
            queue.put_error(ProtocolError(f"instance {answer.text}: there is no memory for its events"))
        if terminal is not None:
            self._end_instance(answer.text, queue, *terminal)
            self._memory.grown(memory_size(terminal[1]))

    def _keep_early(self, instance_id: str, decoded: Any) -> None:
        """Keep an event of an unknown instance: the answer that tells its id may be on its way.

        (Process protocol: "Events of a process may arrive before the answer to its launch".) Otherwise nobody
        holds the instance any more.
        """
        if type(instance_id) is not str or len(instance_id) > _MAX_ID_LENGTH:
            raise BadMessage("an event with an instance id that can't be one: it is no text, or too long")
        if instance_id not in self._forgotten:
            self.pending.keep_early(instance_id, decoded.kept() if isinstance(decoded, BlobChunk) else decoded)
        elif isinstance(decoded, tuple) and decoded[1].terminal:
            self._forgotten.pop(instance_id, None)

    def _handle_text(self, text: str) -> None:
        self._answer_postponed()
        decoded = self._decoder.decode_text(text)
        if isinstance(decoded, Refusal):
            logger.warning("the server could not understand a message: %s", decoded.text[:1000])
            self.pending.refuse(decoded.text)
        elif decoded is not None:
            self._handle(decoded)

    def _handle_chunk(self, chunk: BlobChunk) -> None:
        events = self._queues.get(chunk.instance_id)
        if events is None:
            self._keep_early(chunk.instance_id, chunk)
            return
        try:
            blob = self._blobs.add(
                chunk.instance_id, chunk.blob_hash, chunk.index, chunk.total, chunk.data, chunk.name
            )
        except BlobError as error:
            events.put_error(ProtocolError(f"instance {chunk.instance_id}: {error}"))
            return
        if blob is not None:
            transfer_logger.debug(
                "instance %s: blob %s of %d bytes", chunk.instance_id, chunk.blob_hash, len(blob)
            )
            self._memory.put(events, [(Event.Blob, blob)])

    def _complain(self, bad: BadMessage) -> None:
        """Tell of a message that makes no sense: the request or the instance that it concerns, else the log."""
        error = ProtocolError(f"the server sent {bad}")
        if bad.corr_id is not None and self.pending.fail(bad.corr_id, error):
            return
        events = self._queues.get(bad.instance_id) if bad.instance_id is not None else None
        if events is not None:
            events.put_error(error)
            return
        logger.warning("ignored: %s", error)


def _ended(instance_id: str, event: Event, text: str) -> InstanceEnded:
    return InstanceEnded(f"instance {instance_id} has ended: {event.name}: {text[:200]}")


def _unsure(instance_id: str) -> ProtocolError:
    return ProtocolError(
        f"instance {instance_id}: too many instances sent events before the server told this id, so its own may be"
        " lost, and even its end"
    )
