"""Probes: asks the server whether a silent instance still runs, since servers lose the ends of instances.

Whoever waits for an instance keeps a :class:`Silence` of it, and calls :meth:`Probes.ask` in the pauses of its own
wait. That sends a question and does not wait for the answer, which the reader thread works on. So there is no
further thread, no probe while nobody waits, and no wait becomes longer.

An answer is no proof that the end is lost: the end may be on its way, behind that answer. So it takes two answers,
some time apart, with no event of the instance before either of them.
"""

from __future__ import annotations

import threading
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from .._protocol.messages import Answer, BadMessage
from .._support.time_limits import acquire
from ..errors import PieConnectionError
from .pending_request import PendingRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .event_queue import EventQueue
    from .session import Session

__all__ = ["PACE", "Pace", "Probes", "Silence", "first_nap", "look_again"]


class Pace(NamedTuple):
    """How often the server is asked. Times are in seconds.

    Attributes:
        first: after how much silence an instance is probed for the first time. The pause doubles each time,
        longest: up to this one.
        confirmation: the pause between the answer that an instance is gone and the probe that confirms it.
        look_again: how soon whoever waits looks whether there is an answer, and the shortest pause between lists.
        give_up: after how long a probe that is not answered makes room for another one.
        attaches: how many instances may be probed in a second, where each takes a request of its own.
        rest: how many times as long as the reader thread has worked on a list it is left alone with the next one.
    """

    first: float = 1.0
    longest: float = 30.0
    confirmation: float = 0.5
    look_again: float = 0.25
    give_up: float = 30.0
    attaches: float = 200.0
    rest: float = 20.0


#: Replaced by tests, which have less time.
PACE = Pace()


def first_nap(timeout: float | None) -> float:
    """Return how many seconds to wait for an event, at most ``timeout``, before it makes sense to probe."""
    return PACE.first if timeout is None or timeout > PACE.first else timeout


def look_again() -> float:
    """Return how many seconds to wait between two calls of :meth:`Probes.ask` for many instances."""
    return PACE.look_again


class Silence:
    """An instance that somebody waits for: when to ask the server about it, and what the server says of it.

    It belongs to whoever waits. The reader thread notes the answers in it. All of that are single assignments.

    Args:
        instance_id: which instance.
        events: its queue.
        since: since when it is silent, as a value of ``time.monotonic``.

    Attributes:
        due: when to probe next, as a value of ``time.monotonic``.
        is_over: whether an event has come: then the answer to a probe decides nothing any more.
        request: the last probe; None before the first.
    """

    __slots__ = (
        "_asked",
        "_fill",
        "_gone",
        "_listed",
        "_pause",
        "due",
        "events",
        "instance_id",
        "is_over",
        "request",
    )

    def __init__(self, instance_id: str, events: EventQueue, since: float) -> None:
        self.instance_id = instance_id
        self.events = events
        self.is_over = False
        self.request: PendingRequest | None = None
        self._begin(since)

    def _begin(self, since: float) -> None:
        self._fill = self.events.fill()
        self._pause = PACE.first
        self._listed = False
        # Of which session the server has said that the instance is gone, and when.
        self._gone: tuple[Probes, float] | None = None
        self._asked = since
        self.due = since + PACE.first

    def nap(self, now: float) -> float:
        """Return for how many seconds to wait before the next look: soon after a probe, for its answer."""
        if now < self._asked + PACE.look_again:
            return PACE.look_again
        return max(PACE.look_again, self.due - now)

    def is_due(self, now: float) -> bool:
        """Whether it is time for a probe. No longer silent, if events have come that nobody has received yet."""
        if now < self.due:
            return False
        if self.events.fill() != self._fill:
            self._begin(now)
            return False
        return True

    def postpone(self, now: float) -> None:
        """Let the next probe be due after a pause that is twice as long as the last one."""
        self._asked = now
        self.due = now + self._pause
        self._pause = min(2 * self._pause, PACE.longest)

    def runs(self, *, is_listed: bool = False) -> None:
        """Note that the server says that the instance runs. A list may still have one that has ended."""
        self._gone = None
        self._listed = is_listed

    def is_gone(self, probes: Probes, now: float) -> bool:
        """Note that the server says that the instance is gone. Return whether that is certain now."""
        if self.is_over or self.events.fill() != self._fill:
            return False
        if self._gone is None or self._gone[0] is not probes:
            self._gone = (probes, now)
            self.due = now + PACE.confirmation
            return False
        return now >= self._gone[1] + PACE.confirmation

    def remark(self) -> str:
        """Return what an error should add of an instance that is silent though it is listed; else nothing."""
        if not self._listed or self.is_over:
            return ""
        return (
            "; the server lists it as running: it may be busy, or the server has lost its end, as Pie 0.3 to 0.5"
            " do now and then (hint: terminate it and launch it again, as map does with timeout=… and retries=…)"
        )


class Probes:
    """Asks one server whether silent instances still run. Thread-safe; never waits.

    Where an attach to an attached instance is refused without harm (``Generation.refuses_attach_without_harm``),
    each instance takes a request, of which only so many go out in a second. Elsewhere one list is for all
    instances, and is asked for only so often that the reader thread has time for everything else.

    Args:
        session: the session that the instances are attached to.

    Attributes:
        trusts_lists: whether an instance that is missing in a list has ended. False for a user of the internal
            token until a list has shown one of this connection's instances: nobody has seen what such a user is
            listed.
    """

    def __init__(self, session: Session) -> None:
        self.trusts_lists = True
        self._session = session
        # Serialises the decision to ask.
        self._lock = threading.Lock()
        # How many requests to attach may go out at once, a second's at most, and since when that is so.
        self._allowed = PACE.attaches
        self._allowed_since = 0.0
        # The last list that was asked for, when, and when the next one may be.
        self._list: PendingRequest | None = None
        self._list_sent = 0.0
        self._next_list = 0.0
        # Those that wait for the next list, each put there by whoever waits for it. A dict, used as a set.
        self._waiting: dict[Silence, None] = {}

    def ask(self, silences: Iterable[Silence]) -> None:
        """Send the probes that are due, as far as that is allowed now. Those that are not stay due."""
        now = monotonic()
        due = [silence for silence in silences if silence.is_due(now)]
        if not due or not self._session.is_usable:
            return
        acquired: list[bool] = []
        try:
            if not acquire(self._lock, 0, acquired):
                return  # another thread is asking
            if self._session.protocol.refuses_attach_without_harm:
                self._attach(due, now)
            else:
                self._ask_for_list(due, now)
        except PieConnectionError:
            pass  # whoever waits hears of that, or of the next connection
        finally:
            if True in acquired:
                self._lock.release()

    def _is_attached(self, silence: Silence) -> bool:
        """Whether an instance is attached to this connection: else it has ended, or is being restored."""
        return self._session.router.has_queue(silence.instance_id, silence.events)

    def _send(self, request: PendingRequest, encode: Callable[[int], bytes]) -> None:
        pending = self._session.router.pending
        try:
            self._session.post(encode(pending.add(request)))
        except BaseException:
            pending.remove(request)
            raise

    # --- one request for each instance ------------------------------------------------------------------

    def _attach(self, due: list[Silence], now: float) -> None:
        since_then = (now - self._allowed_since) * PACE.attaches
        self._allowed = min(PACE.attaches, self._allowed + since_then)
        self._allowed_since = now
        protocol = self._session.protocol
        due.sort(key=lambda silence: silence.due)  # those that have waited longest first
        for silence in due[: int(self._allowed)]:
            silence.postpone(now)
            if not self._is_attached(silence):
                continue
            self._allowed -= 1
            if silence.request is not None and not silence.request.settled:
                # It was not answered within its pause. Another one may be, if the server has lost this one.
                self._session.router.pending.remove(silence.request)
            request = PendingRequest("probe", (protocol.attach_answer,), is_probe=True)
            request.on_settled = partial(self._attach_answered, request, silence)
            silence.request = request
            self._send(request, partial(_encode_attach, self._session, silence.instance_id))

    def _attach_answered(self, request: PendingRequest, silence: Silence) -> None:
        """In the reader thread."""
        request.on_settled = None  # which refers to the request
        answer = request.answer
        if not isinstance(answer, Answer):
            return
        protocol = self._session.protocol
        # Attached: so it was detached, against all that was known, and its events come here from now on.
        if answer.ok or answer.text == protocol.already_attached:
            silence.runs()
        elif answer.text == protocol.not_found:
            self._is_gone(silence)

    # --- one list for all of them -----------------------------------------------------------------------

    def _ask_for_list(self, due: list[Silence], now: float) -> None:
        for silence in due:
            if self._is_attached(silence):
                self._waiting[silence] = None
            else:
                silence.postpone(now)
        request = self._list
        if request is not None and not request.settled:
            if now < self._list_sent + PACE.give_up:
                return
            self._session.router.pending.remove(request)
        if now < self._next_list:
            return
        silences, self._waiting = [*self._waiting], {}
        if not silences:
            return
        for silence in silences:
            silence.postpone(now)
        protocol = self._session.protocol
        request = PendingRequest("probe", (protocol.list_answer,), is_probe=True)
        request.on_settled = partial(self._list_answered, request, silences)
        self._send(request, protocol.list)
        self._list, self._list_sent = request, now

    def _list_answered(self, request: PendingRequest, silences: Sequence[Silence]) -> None:
        """In the reader thread."""
        request.on_settled = None  # which refers to the request
        answer = request.answer
        if answer is None or (isinstance(answer, Answer) and not answer.ok):
            return
        begin = monotonic()
        try:
            running = {info.id for info in self._session.protocol.instances(answer)}
        except BadMessage:
            return
        self.trusts_lists |= any(silence.instance_id in running for silence in silences)
        for silence in silences:
            if silence.instance_id in running:
                silence.runs(is_listed=True)
            elif self.trusts_lists:
                self._is_gone(silence)
        now = monotonic()
        self._next_list = now + max(PACE.look_again, PACE.rest * (now - begin))

    # ------------------------------------------------------------------------------------------------------

    def _is_gone(self, silence: Silence) -> None:
        if silence.is_gone(self, monotonic()):
            self._session.router.end_lost(silence.instance_id, silence.events)


def _encode_attach(session: Session, instance_id: str, corr_id: int) -> bytes:
    return session.protocol.attach(corr_id, instance_id)
