"""A plain model of a session, without queues, batches and locks: what each caller must receive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuzzing.harness import feed
from pie_sync import Event, InstanceEnded, PieConnectionError, ProtocolError, RequestError
from pie_sync._protocol.messages import Abort, Answer, BadMessage, BlobChunk, InstanceList, Refusal
from pie_sync._session.blobs import BlobAssembler, BlobError
from pie_sync._transport.frames import BINARY, CLOSE, PING, TEXT, FrameReader

if TYPE_CHECKING:
    from pie_sync._session.pending_request import PendingRequest

#: The instance that exists from the beginning, and that only its own events may affect.
WITNESS = "the witness"

MAX_MESSAGE_SIZE = 100_000
MAX_BLOB_SIZE = 3000


class Model:
    """Does what a session does, in the plainest way.

    Attributes:
        outcomes: the outcome of each request, by its correlation id: an answer, or an exception's type.
        instances: the events and errors of each instance, in the order of their launches.
        pings: the payloads of the server's pings.
    """

    def __init__(self, decoder: Any) -> None:
        self.outcomes: dict[int, Any] = {}
        self.instances: list[list[Any]] = []
        self.pings: list[Any] = []
        self._decoder = decoder
        self._frames = FrameReader(MAX_MESSAGE_SIZE)
        self._blobs = BlobAssembler(MAX_BLOB_SIZE)
        self._is_over = False
        self._waiting: dict[int, PendingRequest] = {}
        self._given_up: dict[int, PendingRequest] = {}
        self._known: dict[str, list[Any]] = {}
        self._early: list[Any] = []
        self._forgotten: set[str] = set()
        self._add_instance(WITNESS)

    def replay(self, journal: list[Any]) -> None:
        """Go through the journal: the bytes of each read, and the actions of the callers."""
        for what, *more in journal:
            if self._is_over:
                break
            if what == "data":
                self._read(*more)
            elif what == "request":
                self._waiting[more[0]] = more[1]
            elif what == "given up":
                request = self._waiting.pop(more[0], None)
                if request is not None and request.on_success is not None:
                    self._given_up[more[0]] = request
                self._settle()
            elif what == "forgotten":
                for instance_id, expected in list(self._known.items()):
                    if expected is self.instances[more[0]]:
                        self._end(instance_id)
                        self._forgotten.add(instance_id)
            else:
                (self._decoder,) = more
        # The line has ended, or the connection was ended before.
        for corr_id in self._waiting:
            self.outcomes[corr_id] = PieConnectionError
        for expected in self._known.values():
            expected.append(PieConnectionError)

    def _read(self, data: bytes) -> None:
        messages = feed(self._frames, data)
        opcodes = [opcode for opcode, _ in messages]
        ending = CLOSE in opcodes or self._frames.error is not None
        if CLOSE in opcodes:
            del messages[opcodes.index(CLOSE) :]
        # The session answers pings first, whatever the other messages do.
        self.pings += [payload for opcode, payload in messages if opcode == PING]
        for opcode, payload in messages:
            if opcode == TEXT:
                self._take_text(self._decoder.decode_text(payload))
            elif opcode == BINARY:
                self._take_payload(payload)
            if self._is_over:
                return
        self._is_over = ending

    def _take_text(self, decoded: Any) -> None:
        if isinstance(decoded, Abort):
            self._is_over = True
        elif isinstance(decoded, Refusal) and len(self._waiting) == 1:
            self.outcomes[self._waiting.popitem()[0]] = RequestError
            self._settle()

    def _take_payload(self, payload: Any) -> None:
        try:
            decoded = self._decoder.decode(payload)
        except BadMessage as bad:
            if bad.corr_id is not None and (
                self._waiting.pop(bad.corr_id, None) or self._given_up.pop(bad.corr_id, None)
            ):
                self.outcomes[bad.corr_id] = ProtocolError
                self._settle()
            elif bad.instance_id in self._known:
                self._known[bad.instance_id].append(ProtocolError)
            return
        if isinstance(decoded, (Answer, InstanceList)):
            self._take_answer(decoded)
        elif isinstance(decoded, BlobChunk):
            self._take_of_instance(decoded.instance_id, decoded)
        elif isinstance(decoded, tuple) and isinstance(decoded[0], str):
            self._take_of_instance(decoded[0], decoded[1:])

    def _take_answer(self, answer: Answer | InstanceList) -> None:
        request = self._waiting.get(answer.corr_id) or self._given_up.get(answer.corr_id)
        if request is None:
            return
        refused = isinstance(answer, Answer) and not answer.ok
        self.outcomes[answer.corr_id] = answer
        if answer.kind not in request.kinds and not (refused and answer.kind == "response"):
            self.outcomes[answer.corr_id] = ProtocolError
        elif request.on_success is not None and isinstance(answer, Answer) and not refused:
            if answer.text in self._known:
                self.outcomes[answer.corr_id] = ProtocolError
            else:
                self._add_instance(answer.text)
        self._waiting.pop(answer.corr_id, None)
        self._given_up.pop(answer.corr_id, None)
        self._settle()

    def _settle(self) -> None:
        if not self._expects_instances:
            self._early.clear()

    @property
    def _expects_instances(self) -> bool:
        pending = [*self._waiting.values(), *self._given_up.values()]
        return any(request.on_success for request in pending)

    def _add_instance(self, instance_id: str) -> None:
        self._known[instance_id] = []
        self._forgotten.discard(instance_id)
        self.instances.append(self._known[instance_id])
        early, self._early = self._early, []
        for whose, what in early:
            if whose != instance_id:
                self._early.append((whose, what))
            elif whose in self._known:  # otherwise it has ended
                self._take_of_instance(whose, what)

    def _take_of_instance(self, instance_id: str, what: Any) -> None:
        expected = self._known.get(instance_id)
        if expected is None:
            if instance_id in self._forgotten:
                if not isinstance(what, BlobChunk) and what[0].terminal:
                    self._forgotten.discard(instance_id)
            elif self._expects_instances:
                self._early.append((instance_id, what))
        elif isinstance(what, BlobChunk):
            try:
                blob = self._blobs.add(instance_id, what.blob_hash, what.index, what.total, what.data, what.name)
            except BlobError:
                expected.append(ProtocolError)
            else:
                if blob is not None:
                    expected.append((Event.Blob, blob))
        else:
            expected.append(what)
            if what[0].terminal:
                expected.append(InstanceEnded)
                self._end(instance_id)

    def _end(self, instance_id: str) -> None:
        del self._known[instance_id]
        self._blobs.forget(instance_id)
