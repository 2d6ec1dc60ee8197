"""``client.map``: one instance for each input, many at a time, without a thread for each.

The caller's thread does all the work, while it waits for a result. It sends a launch without waiting for the
answer (:class:`Launch`), so as many launches are on their way as may run at a time; many of them in one
write where no input can be waited for. The reader thread puts each into one queue when its instance has ended.
Until then the events of an instance stay in its event queue.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from heapq import heappop, heappush
from time import monotonic
from typing import TYPE_CHECKING, Any, Union

from .._connection.validation import check_args, check_count
from .._session.probes import look_again
from .._support.kept_errors import copy_of_error
from .._support.signal_handlers import is_from_signal_handler
from .._support.signal_safe_queue import SignalSafeQueue
from .._support.time_limits import DEFAULT, check_timeout, deadline_after
from ..errors import PieError, PieValueError
from ..events import CompletedInstance
from .journal import Journal, recorded
from .launch import Launch
from .launcher import Launcher
from .program_reference import GivenProgram
from .progress import ProgressMeter, ProgressOption, meter_of
from .results import OnError, Results, check_on_error
from .retries import growing_pause, may_be_bad_luck
from .termination import terminate_all

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from .._connection.manager import ConnectionManager
    from .._connection.validation import Arguments
    from .program_reference import Program, ProgramReference

__all__ = ["LOOK_AHEAD", "NEVER_WAIT", "Outcome", "map_"]

logger = logging.getLogger("pie_sync.protocol")

#: How many inputs are taken before their results are, at the most: so many times ``concurrency``.
LOOK_AHEAD = 4

#: Longest uninterrupted wait in seconds; bounds how long Ctrl-C takes. A signal that arrives just as a thread
#: begins to wait does not wake it, and on Windows no signal does.
_NAP = 0.1

#: The iterators of lists, tuples and the like. Any other may wait for what it yields, and a launch must not.
NEVER_WAIT = {type(iter([])), type(iter(())), type(iter({})), type(iter({}.values())), type(iter(range(0)))}

#: Between two results more is launched when a fourth of the places is free, or after so many seconds.
_REFILL = 4
_REFILL_INTERVAL = 0.001

#: What becomes of an input.
Outcome = Union[CompletedInstance[Any], Exception]


def map_(
    manager: ConnectionManager,
    program: Program | ProgramReference,
    inputs: Iterable[Arguments],
    *,
    concurrency: int = 16,
    ordered: bool = True,
    retries: int = 0,
    return_exceptions: bool = False,
    timeout: float | None = None,
    on_error: OnError | None = None,
    results: str | os.PathLike[str] | None = None,
    restart: bool = False,
    progress: ProgressOption | ProgressMeter = None,
    check: Callable[[], None] | None = None,
    first: int = 0,
) -> Results[Any]:
    """Implement :meth:`PieClient.map`, which says what the arguments are, and the errors.

    ``check`` is called every ``_NAP`` seconds while no instance has ended. What it raises ends the map.
    ``first`` is the number of the first input, for errors.
    """
    check_count(concurrency, "concurrency", least=1)
    check_count(retries, "retries", least=0)
    on_error = check_on_error(on_error, return_exceptions)
    if results is not None and not ordered:
        raise PieValueError("results is written in the order of the inputs: leave out ordered=False")
    timeout = check_timeout(timeout)
    given, iterator = GivenProgram(program), iter(inputs)
    manager.authenticated("map", manager.limit(DEFAULT))
    reference = given.find(manager, "map")
    meter = meter_of(progress, inputs)

    def start(inputs: Iterator[Any], lines: int = 0) -> Generator[Outcome, None, None]:
        return _Batch(
            manager,
            reference,
            inputs,
            concurrency=concurrency,
            ordered=ordered,
            retries=retries,
            return_exceptions=on_error != "raise",
            timeout=timeout,
            meter=meter,
            check=check,
            first=first + lines,
        ).results()

    if results is None:
        return Results(start(iterator), on_error, meter.close)
    options = {"retries": retries, "on_error": on_error, "timeout": timeout}
    journal = Journal(results, {"program": reference.identity, **options}, restart=restart)

    def close() -> None:
        try:
            journal.close()
        finally:
            meter.close()

    return Results(recorded(journal, iterator, start, meter, reference.result_form), on_error, close)


class _Job:
    """One input on its way to its outcome."""

    __slots__ = ("args", "deadline", "failures", "outcome", "sent_args")

    def __init__(self, args: Any, sent_args: Any) -> None:
        self.args = args  # as the user gave them
        self.sent_args = sent_args
        self.failures = 0
        # Of the instance that runs for it; None is without limit.
        self.deadline: float | None = None
        self.outcome: Outcome | None = None


class _Batch:
    """The inputs and the instances of one ``map``. Used by one thread at a time."""

    def __init__(
        self,
        manager: ConnectionManager,
        reference: ProgramReference,
        inputs: Iterator[Any],
        *,
        concurrency: int,
        ordered: bool,
        retries: int,
        return_exceptions: bool,
        timeout: float | None,
        meter: ProgressMeter,
        check: Callable[[], None] | None,
        first: int,
    ) -> None:
        self._manager = manager
        self._reference = reference
        self._inputs: Iterator[Any] | None = inputs
        self._never_waits = type(inputs) in NEVER_WAIT
        self._concurrency = concurrency
        self._ordered = ordered
        self._retries = retries
        self._return_exceptions = return_exceptions
        self._timeout = timeout
        self._meter = meter
        self._check = check
        # Looked up again when it is not current any more.
        self._launcher: Launcher | None = None
        # The reader thread puts in each launch that was refused, or whose instance has ended.
        self._ended: SignalSafeQueue[Launch] = SignalSafeQueue()
        self._running: dict[Launch, _Job] = {}
        # Those of the running ones that the server may not have answered yet, the oldest first.
        self._unanswered: deque[Launch] = deque()
        # What is to be launched again: when, a number that decides between two of the same time, and the job.
        self._again: list[tuple[float, int, _Job]] = []
        self._failures = 0
        # When to look next which of the running ones are silent.
        self._next_look = 0.0
        # The jobs that are to be yielded next: all in the order of the inputs, or those that are done.
        self._line: deque[_Job] = deque()
        # The number of the next input.
        self._number = first
        # How many inputs were taken whose outcomes were not, and how many may be.
        self._taken = 0
        self._most_taken = LOOK_AHEAD * concurrency

    def results(self) -> Generator[Outcome, None, None]:
        """Yield the outcomes. However the iteration ends, terminate the instances that still run."""
        line = self._line
        refill = max(1, self._concurrency // _REFILL)
        try:
            while True:
                self._collect(block=False)
                self._launch_more()
                if self._running or self._again:  # else the last state comes, when the meter is closed
                    self._meter.tell(len(self._running))
                until = monotonic() + _REFILL_INTERVAL
                is_done = False
                while line and (outcome := line[0].outcome) is not None:
                    is_done = True
                    line.popleft()
                    self._taken -= 1
                    if isinstance(outcome, Exception) and self._is_raised(outcome):
                        raise outcome
                    yield outcome
                    if len(self._ended) >= refill or monotonic() >= until:
                        break
                if not is_done:
                    if not self._running and not self._again:
                        return
                    self._collect(block=True)
        finally:
            terminate_all(self._running)
            self._running.clear()

    def _is_raised(self, error: Exception) -> bool:
        # A lost connection is raised: it would be the outcome of all other inputs as well, which may be endless.
        # So is a mistake in an input: it is the caller's, not the instance's.
        return not self._return_exceptions or isinstance(error, PieValueError) or not isinstance(error, PieError)

    # --- from input to launch ---------------------------------------------------------------------------

    def _launch_more(self) -> None:
        """Launch what there are places for. An input may be waited for, but no launch waits for an input."""
        while True:
            places = self._concurrency - len(self._running)
            if not self._running:
                # In two writes: while this side handles the ends of one half, the server works on the other.
                places = (places + 1) // 2
            jobs = self._next_jobs(places) if places > 0 else None
            if not jobs:
                return
            self._launch(jobs)

    def _next_jobs(self, count: int) -> list[_Job]:
        """Return up to so many jobs that can be had without waiting for an input; else the next one."""
        jobs: list[_Job] = []
        while self._again and len(jobs) < count and self._again[0][0] <= monotonic():
            jobs.append(heappop(self._again)[2])
        while len(jobs) < count and (self._never_waits or not jobs):
            job = self._next_job()
            if job is None:
                break
            jobs.append(job)
        return jobs

    def _next_job(self) -> _Job | None:
        if self._inputs is None or self._taken >= self._most_taken:
            return None
        try:
            job = self._job(next(self._inputs))
        except StopIteration:
            self._inputs = None
            return None
        except Exception as error:  # the iterator failed, or gave no arguments: raised where its result would be
            if is_from_signal_handler(error):
                raise
            job = _Job(None, None)
            job.outcome = error
            self._inputs = None
        self._taken += 1
        if self._ordered or job.outcome is not None:
            self._line.append(job)
        return job if job.outcome is None else None

    def _job(self, given: Any) -> _Job:
        number, self._number = self._number, self._number + 1
        try:
            args = sent_args = check_args(given)
            if self._reference.signature is not None:
                sent_args = self._reference.check_args(args)
        except (TypeError, PieValueError) as error:
            if is_from_signal_handler(error):
                raise
            raise type(error)(f"inputs[{number}]: {error}") from error
        return _Job(args, sent_args)

    def _launch(self, jobs: list[_Job]) -> None:
        """Launch several in one write."""
        try:
            limit = self._manager.limit(DEFAULT)
            launcher = self._launcher
            if launcher is None or not launcher.is_current:
                launcher = self._launcher = Launcher(self._manager, "map", self._reference, limit)
        except Exception as error:
            if is_from_signal_handler(error):
                raise
            for job in jobs:
                self._failed(job, copy_of_error(error))
            return
        deadline = deadline_after(self._timeout)
        launches = []
        for job in jobs:
            launch = Launch(launcher, limit, self._ended)
            job.deadline = deadline
            self._running[launch] = job  # before it is sent, so that Ctrl-C leaves no launch behind
            launches.append(launch)
        failed = launcher.send(launches, [job.sent_args for job in jobs], limit)
        self._unanswered.extend(launch for launch in launches if launch not in failed)
        for launch, reason in failed.items():
            self._failed(self._running.pop(launch), reason)

    # --- from the end of an instance to its outcome -----------------------------------------------------

    def _collect(self, *, block: bool) -> None:
        """Handle all launches that are in the queue. With ``block``, wait up to ``_NAP`` seconds for the first."""
        nap = 0.0
        if block:
            nap = self._nap()
            for launch in self._running:
                launch.check_process()
                break
            if self._check is not None:
                self._check()
        for launch in self._ended.get_all(nap):
            self._take(launch)
        now = monotonic()
        self._give_up_unanswered()
        self._terminate_late(now)
        self._probe(now)

    def _nap(self) -> float:
        """Return how long to wait at a time: until the first deadline or the first launch again at the most."""
        nap = _NAP
        for job in self._running.values():  # in the order of their deadlines
            if job.deadline is not None:
                nap = min(nap, job.deadline - monotonic())
            break
        if self._again and len(self._running) < self._concurrency:  # else a place comes first
            nap = min(nap, self._again[0][0] - monotonic())
        return max(0.0, nap)

    def _take(self, launch: Launch) -> None:
        job = self._running.pop(launch, None)
        if job is None:
            return  # it was given up
        try:
            completed = launch.completed(job.args)
        except Exception as error:
            if is_from_signal_handler(error):
                raise
            if launch.is_running:
                terminate_all([launch])  # the server has sent something senseless of it
            launch.drop()
            self._failed(job, error)
        else:
            self._done(job, completed)

    def _give_up_unanswered(self) -> None:
        unanswered = self._unanswered
        while unanswered:
            launch = unanswered[0]
            if not launch.settled:
                if launch.limit.left() != 0:
                    return
                launch.give_up()
                error = launch.limit.expired("map", "no answer to a launch from the server")
                self._failed(self._running.pop(launch), error)
            unanswered.popleft()

    def _terminate_late(self, now: float) -> None:
        """Terminate the instances whose time is over."""
        if self._timeout is None:
            return
        late = []
        for launch, job in self._running.items():  # in the order of their deadlines
            assert job.deadline is not None
            if job.deadline > now:
                break
            # What neither runs nor is unanswered has ended just now: it is in the queue.
            if launch.is_running or not launch.settled:
                late.append((launch, launch.timed_out(self._timeout)))
        for launch, _ in late:
            if not launch.settled:
                launch.give_up()  # whose instance is terminated when it comes
        terminate_all([launch for launch, _ in late])
        for launch, error in late:
            self._failed(self._running.pop(launch), error)

    def _probe(self, now: float) -> None:
        """Ask the server now and then whether the instances that are silent still run."""
        if now >= self._next_look:
            watched = (launch.watch() for launch in self._running)
            self._manager.probe(silence for silence in watched if silence is not None)
            self._next_look = now + look_again()

    def _failed(self, job: _Job, error: Exception) -> None:
        job.failures += 1
        if job.failures <= self._retries and may_be_bad_luck(error):
            pause = growing_pause(job.failures)
            logger.debug(
                "map: %s: launching it again in %.1f s, for the %d. time",
                type(error).__name__,
                pause,
                job.failures,
            )
            self._failures += 1
            heappush(self._again, (monotonic() + pause, self._failures, job))
        else:
            self._done(job, error)

    def _done(self, job: _Job, outcome: Outcome) -> None:
        job.outcome = outcome
        if isinstance(outcome, PieError):
            outcome.input = job.args
        job.args = job.sent_args = None
        self._meter.count(failed=isinstance(outcome, Exception))
        if not self._ordered:
            self._line.append(job)
        if isinstance(outcome, Exception) and self._is_raised(outcome):
            self._inputs = None  # the error ends the iteration before the results of further inputs
