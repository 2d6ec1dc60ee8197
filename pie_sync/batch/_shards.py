"""Cuts the inputs of a batch into shards, submits them, and yields their outcomes in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import closing
from queue import Empty
from typing import TYPE_CHECKING, Any, Union

from .._support.signal_handlers import is_from_signal_handler
from .._support.signal_safe_queue import SignalSafeQueue
from ..errors import PieConnectionError, PieError, PieValueError
from ._inputs import Inputs, ThreadedInputs
from ._worker import (
    BatchOptions,
    Shard,
    ShardOutcomes,
    ShardResult,
    abandon_clients,
    close_clients,
    is_lasting,
    listen,
    run_shard,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from .._runs.program_reference import GivenProgram
    from .._runs.progress import ProgressMeter
    from ._executors import ExecutorProvider
    from ._server_pool import PooledServer, ServerPool

__all__ = ["ShardScheduler"]

#: How often in a row the workers of a shard, or the whole executor, may fail before the batch ends.
_MAX_ATTEMPTS = 3

#: Longest uninterrupted wait in seconds; bounds how long Ctrl-C takes, and how late a lost server is tried again.
_NAP = 0.1

#: What the scheduler waits for: a future that is done, outcomes of a shard that goes on, or None for more inputs.
_News = Union["Future[ShardResult]", ShardOutcomes, None]


class _ScheduledShard:
    """A shard whose outcomes have not been yielded yet."""

    def __init__(self, number: int, inputs: list[Any], first: int) -> None:
        self.number = number
        # What has no outcome yet, and the position of its first one among the inputs of the batch.
        self.inputs = inputs
        self.first = first
        # What was not yielded yet.
        self.outcomes: list[Any] = []
        self.error: BaseException | None = None
        self.is_done = False
        self.attempt = 0
        self.failures = 0
        # Who works on it. None while it has to be submitted, for the first time or again.
        self.server: PooledServer | None = None
        # In which period of that server it was submitted, see ServerPool.started().
        self.period = 0


class ShardScheduler:
    """The shards of one batch. Used by one thread at a time.

    Args:
        options: the options of the batch.
        servers: its servers.
        executor: what runs the shards.
        shard_size: how many inputs make a shard.
        max_shards: how many shards may be submitted, or have results that were not yielded.
        given: the program, if it is one that has to be uploaded to each server.
        meter: is told how far the batch is.
        in_thread: whether the inputs are taken in a thread of their own, so that shards are handled meanwhile.
        check: called every ``_NAP`` seconds while no shard has ended. What it raises ends the batch.
    """

    def __init__(
        self,
        options: BatchOptions,
        servers: ServerPool,
        executor: ExecutorProvider,
        *,
        shard_size: int,
        max_shards: int,
        given: GivenProgram | None,
        meter: ProgressMeter,
        in_thread: bool,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._options = options
        self.servers = servers
        self._executor = executor
        self._shard_size = shard_size
        self._max_shards = max_shards
        self._given = given
        self._meter = meter
        self._check = check
        self._in_thread = in_thread
        self._inputs: Inputs | None = None
        # How many shards there were, and the number of the next input.
        self._number = 0
        self._taken = 0
        # In order: the outcomes of the first one are yielded next.
        self._scheduled: deque[_ScheduledShard] = deque()
        self._under_way: dict[Future[ShardResult], _ScheduledShard] = {}
        # What has happened, in that order.
        self._news: SignalSafeQueue[_News] = SignalSafeQueue()
        # What ends the batch behind the shards that are done.
        self._fatal: BaseException | None = None
        # How many shards came back before the executor last broke, and how often it broke in a row since then.
        self._done = 0
        self._done_before = -1
        self._breaks = 0

    def outcomes(self, inputs: Iterator[Any], number: int = 0) -> Generator[Any, None, None]:
        """Yield the outcomes in order. Call :meth:`close` or :meth:`abandon` when nobody iterates any more.

        Args:
            inputs: the inputs.
            number: that of the first one, for errors.
        """
        self._taken = number
        news = self._news
        taken = ThreadedInputs(inputs, lambda: news.put(None)) if self._in_thread else Inputs(inputs)
        self._inputs = taken
        listen(self._options.batch, news.put)
        while True:
            if self._fatal is None:
                self._submit()
                while self._take_inputs(taken):
                    self._submit()
            first = self._scheduled[0] if self._scheduled else None
            if first is None and taken.is_exhausted:
                if taken.error is not None:
                    raise taken.error
                return
            if first is not None and first.outcomes:
                outcomes, first.outcomes = first.outcomes, []
                yield from outcomes
            elif first is not None and first.is_done:
                self._scheduled.popleft()
                if first.error is not None:
                    raise first.error
            elif self._fatal is not None:
                raise self._fatal
            else:
                self._wait()

    def close(self) -> None:
        """Cancel what no worker has begun, and close what belongs to the batch.

        Blocks until the shards that are running have ended, if the executor was made here.
        """
        if self._inputs is not None:
            self._inputs.stop()
        self._cancel()
        close_clients(self._options.batch)  # where the workers are threads of this process
        self._executor.close()

    def abandon(self) -> None:
        """Do what can be done of :meth:`close` in a finalizer, which must neither wait nor take a lock of ours."""
        if self._inputs is not None:
            self._inputs.abandon()
        abandon_clients(self._options.batch)
        self._cancel()
        self._executor.abandon()

    def _cancel(self) -> None:
        for future in list(self._under_way):
            future.cancel()
        self._under_way.clear()
        self._scheduled.clear()

    # --- from inputs to shards under way ----------------------------------------------------------------

    def _take_inputs(self, inputs: Inputs) -> bool:
        """Make a shard of the next inputs, if it could be submitted at once. Return whether there is a new one."""
        if len(self._scheduled) >= self._max_shards or any(map(_is_waiting, self._scheduled)):
            return False
        workers = self._executor.workers
        taken = inputs.take(self._shard_size, hurry=workers is None or len(self._under_way) < workers)
        if taken:
            self._scheduled.append(_ScheduledShard(self._number, taken, self._taken))
            self._number += 1
            self._taken += len(taken)
        return bool(taken)

    def _submit(self) -> None:
        """Submit the shards that nobody works on, as far as there are servers for them, the first ones first."""
        for scheduled in self._scheduled:
            while _is_waiting(scheduled) and self._fatal is None:
                most = self.servers.most_under_way(self._executor.workers)
                if most is not None and len(self._under_way) >= most:
                    return
                server = self.servers.choose()
                if server is None:
                    return
                try:
                    self._submit_to(server, scheduled)
                except BrokenExecutor as broken:
                    self._replace_executor(broken)

    def _submit_to(self, server: PooledServer, scheduled: _ScheduledShard) -> None:
        scheduled.attempt += 1
        shard = Shard(
            scheduled.number, scheduled.inputs, scheduled.first, scheduled.attempt, self.servers.may_move
        )
        future = self._executor.submit(run_shard, self._options, server.endpoint, shard)
        scheduled.server = server
        scheduled.period = self.servers.started(server, len(scheduled.inputs))
        self._under_way[future] = scheduled
        future.add_done_callback(self._news.put)

    # --- from shards under way to outcomes --------------------------------------------------------------

    def _wait(self) -> None:
        """Handle all that has happened. If there is nothing, wait for it, up to ``_NAP`` seconds."""
        if self._check is not None:
            self._check()
        self._tell()
        try:
            news = self._news.get(_NAP)
            while True:
                if isinstance(news, ShardOutcomes):
                    self._take_outcomes(news)
                elif news is not None:
                    self._take(news)
                news = self._news.get(0)
        except Empty:
            self._or_fatal(self.servers.check)
        self._tell()

    def _tell(self) -> None:
        self._meter.unreachable = self.servers.unreachable()
        self._meter.tell(self._running())

    def _running(self) -> int:
        """Return how many inputs may be at work: those of shards that wait for a worker are not."""
        concurrency, workers = self._options.concurrency, self._executor.workers
        running = sum(min(len(scheduled.inputs), concurrency) for scheduled in self._under_way.values())
        return running if workers is None else min(running, workers * concurrency)

    def _take_outcomes(self, news: ShardOutcomes) -> None:
        for scheduled in self._under_way.values():
            if (scheduled.number, scheduled.attempt) == (news.number, news.attempt):
                self._add_outcomes(scheduled, news.outcomes)
                return

    def _add_outcomes(self, scheduled: _ScheduledShard, outcomes: list[Any]) -> None:
        assert scheduled.server is not None
        for outcome in outcomes:
            self._meter.count(failed=isinstance(outcome, Exception))
        self.servers.has_outcomes(scheduled.server, len(outcomes))
        scheduled.outcomes += outcomes
        # A new list: a worker may be a thread that has the old one.
        scheduled.inputs = scheduled.inputs[len(outcomes) :]
        scheduled.first += len(outcomes)

    def _take(self, future: Future[ShardResult]) -> None:
        scheduled = self._under_way.get(future)
        if scheduled is None:
            return  # of an executor that was replaced
        try:
            result = future.result()
        except BrokenExecutor as broken:
            self._replace_executor(broken)
        except (Exception, CancelledError) as error:  # the worker is lost, since run_shard() raises nothing
            if is_from_signal_handler(error):
                raise
            self._ended_without_result(future)
            self._failed(scheduled, error)
        else:
            self._handle(future, result)

    def _ended_without_result(self, future: Future[ShardResult]) -> PooledServer:
        scheduled = self._under_way.pop(future)
        server, scheduled.server = scheduled.server, None
        assert server is not None
        self.servers.ended(server, len(scheduled.inputs), scheduled.period)
        return server

    def _failed(self, scheduled: _ScheduledShard, error: BaseException) -> None:
        scheduled.failures += 1
        if scheduled.failures >= _MAX_ATTEMPTS:
            scheduled.error, scheduled.is_done = error, True

    def _handle(self, future: Future[ShardResult], result: ShardResult) -> None:
        scheduled = self._under_way[future]
        self._add_outcomes(scheduled, result.outcomes)
        server = self._ended_without_result(future)
        error = result.error
        if error is not None and result.is_of_server:
            self._lost(server, scheduled, error, result.is_lasting, result.refuses_program)
        elif result.lacks_program:
            self._upload_to(server, scheduled)
        else:
            self.servers.reached(server, result.launched, result.seconds, scheduled.period)
            scheduled.failures = 0
            if error is not None:
                if isinstance(error, PieError) and not isinstance(error, PieValueError):
                    self._meter.count(failed=True)
                scheduled.error = error
            scheduled.is_done = error is not None or not scheduled.inputs
            self._done += 1

    def _upload_to(self, server: PooledServer, scheduled: _ScheduledShard) -> None:
        """Upload the program to a server that was not there before, or was started anew."""
        assert self._given is not None
        try:
            client = server.endpoint.connect()
        except Exception as error:
            if is_from_signal_handler(error):
                raise
            self._lost(server, scheduled, error, is_lasting(error))
            return
        try:
            with closing(client):
                self._given.find(client._manager, "run_batch")
        except PieConnectionError as error:
            self._lost(server, scheduled, error, is_lasting(error))
        except Exception as error:
            if is_from_signal_handler(error):
                raise
            self._failed(scheduled, error)

    def _lost(
        self,
        server: PooledServer,
        scheduled: _ScheduledShard,
        error: Exception,
        lasts: bool,
        refuses_program: bool = False,
    ) -> None:
        self._or_fatal(
            lambda: self.servers.lost(
                server, error, scheduled.period, is_lasting=lasts, refuses_program=refuses_program
            )
        )

    def _or_fatal(self, call: Callable[[], None]) -> None:
        """Keep an error that ends the batch until the shards before it were yielded."""
        try:
            call()
        except Exception as error:
            if is_from_signal_handler(error):
                raise
            self._fatal = error

    def _replace_executor(self, broken: BrokenExecutor) -> None:
        """Get another executor. All shards without a result have to be submitted again."""
        self._breaks = self._breaks + 1 if self._done == self._done_before else 1
        self._done_before = self._done
        try:
            if self._breaks >= _MAX_ATTEMPTS:
                raise broken
            self._executor.replace(broken)
        except BrokenExecutor as error:
            self._fatal = error
        for future, scheduled in list(self._under_way.items()):
            if not _has_result(future):
                self._ended_without_result(future)
                scheduled.failures = 0  # any of them may have broken the executor, so none is blamed for it


def _is_waiting(scheduled: _ScheduledShard) -> bool:
    """Say whether a shard is to be submitted."""
    return scheduled.server is None and not scheduled.is_done


def _has_result(future: Future[ShardResult]) -> bool:
    """Say whether a future of a broken executor has a result. Blocks until that is decided."""
    try:
        return future.exception() is None
    except CancelledError:
        return False
