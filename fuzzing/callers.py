"""A fake line that a session reads from, and callers that use the session. No sockets and no threads."""

from __future__ import annotations

import os
import queue
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Union

from fuzzing.model import WITNESS
from pie_sync import InstanceEnded, PieConnectionError, ProtocolError
from pie_sync._protocol import PROTOCOLS
from pie_sync._session.pending_request import PendingRequest
from pie_sync._transport.frames import CLOSE

if TYPE_CHECKING:
    from pie_sync._session.event_queue import EventQueue
    from pie_sync._session.session import Session

#: The kinds of messages that answer a launch or an attach, and those that answer other requests.
LAUNCHING = (("instance_launch_result",), ("instance_attach_result",), ("response",))
ASKING = (("response",), ("live_instances",), ("response", "challenge"))

#: The bytes of one read, or an action of the callers before the next read.
Step = Union[bytes, Callable[[], None]]


class Line:
    """The client's end of a connection: it delivers ``steps``, and then the end of the stream.

    Attributes:
        said: the bytes that the client has sent.
    """

    def __init__(self, journal: list[Any]) -> None:
        self.steps: deque[Step] = deque()
        self.said = bytearray()
        self._journal = journal
        self._closing = False

    def recv_into(self, buffer: memoryview, nbytes: int = 0, flags: int = 0) -> int:
        while self.steps and not isinstance(self.steps[0], bytes):
            action = self.steps.popleft()
            if not self._closing:  # later callers find the connection lost
                action()
        if not self.steps:
            return 0
        data = self.steps.popleft()
        assert isinstance(data, bytes)
        if len(data) > len(buffer):
            self.steps.appendleft(data[len(buffer) :])
            data = data[: len(buffer)]
        self._journal.append(("data", data))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: memoryview, flags: int = 0) -> int:
        self.said += data
        self._closing = self._closing or data[0] & 0x0F == CLOSE
        return len(data)

    def fileno(self) -> int:
        return _READY

    def setblocking(self, flag: bool) -> None: ...

    def setsockopt(self, level: int, option: int, value: bytes) -> None: ...

    def shutdown(self, how: int) -> None: ...

    def close(self) -> None: ...


# The session polls this file in place of a socket: it can always be read and written.
_READY = os.open(os.devnull, os.O_RDWR)


class Place:
    """Stands in for an endpoint: gives the session its line."""

    uri = "ws://fuzzing"
    is_gateway = False
    candidates = tuple(PROTOCOLS.values())

    def __init__(self, line: Line) -> None:
        self._line = line

    def connect(self, on_request_sent: Callable[[], None]) -> Line:
        return self._line

    def close(self) -> None: ...

    def abort(self) -> None: ...


class Held:
    """An instance that a caller holds, and the events that the caller has received."""

    def __init__(self, instance_id: str, events: EventQueue) -> None:
        self.id = instance_id
        self.events = events
        self.received: list[Any] = []

    def receive(self) -> bool:
        """Receive one event or error. Return False if there is none, or if the instance has ended."""
        if self.is_over:
            return False
        try:
            self.received.append(self.events.get(block=False))
        except queue.Empty:
            return False
        except (ProtocolError, InstanceEnded, PieConnectionError) as error:
            self.received.append(type(error))
        return True

    @property
    def is_over(self) -> bool:
        return bool(self.received) and self.received[-1] in (InstanceEnded, PieConnectionError)


class Callers:
    """All users of the session, with their requests and instances.

    Attributes:
        requests: all requests that were ever made, by their correlation ids.
        instances: all instances that there ever were, in order, the witness first. None if it was forgotten.
    """

    def __init__(self, session: Session, journal: list[Any]) -> None:
        self._session = session
        self._journal = journal
        self.requests: dict[int, PendingRequest] = {}
        self.instances: list[Held | None] = []
        self.add_instance(WITNESS)

    def ask(self, number: int) -> None:
        self._add(PendingRequest("query", ASKING[number % len(ASKING)]))

    def launch(self, number: int) -> None:
        kinds = LAUNCHING[number % len(LAUNCHING)]
        self._add(PendingRequest("launch_instance", kinds, lambda answer: self.add_instance(answer.text)))

    def _add(self, request: PendingRequest) -> None:
        corr_id = self._session.router.pending.add(request)
        request.mark_as_sent()
        assert corr_id not in self.requests
        self.requests[corr_id] = request
        self._journal.append(("request", corr_id, request))

    def add_instance(self, instance_id: str) -> None:
        events = self._session.router.add_instance(instance_id)
        self.instances.append(Held(instance_id, events))

    def give_up(self, number: int) -> None:
        if self.requests:
            corr_id = 1 + number % len(self.requests)
            self._session.router.pending.remove(self.requests[corr_id])
            self._journal.append(("given up", corr_id))

    def forget(self, number: int) -> None:
        """Drop an instance, as its finalizer does, unless it is the witness."""
        index = number % len(self.instances)
        held = self.instances[index]
        if index > 0 and held is not None:
            self._session.router.forget(held.id, held.events)
            self.instances[index] = None
            self._journal.append(("forgotten", index))

    def receive(self, number: int) -> None:
        for held in self.instances:
            if held is not None:
                for _ in range(number):
                    if not held.receive():
                        break

    def decide(self, number: int) -> None:
        """Set the protocol, as the answer to an authentication does."""
        if self._session.protocol_name is None:
            self._session.router.protocol = Place.candidates[number % 2]
            self._journal.append(("protocol", self._session.protocol))
