"""Cuts the inputs of a batch into shards, submits them, and yields their outcomes in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import closing
from itertools import islice
from queue import Empty
from typing import TYPE_CHECKING, Any

from .._support.signal_handlers import is_from_signal_handler
from .._support.signal_safe_queue import SignalSafeQueue
from ..errors import PieConnectionError
from ._worker import BatchOptions, Shard, ShardResult, abandon_clients, close_clients, run_shard

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


class _ScheduledShard:
    """A shard whose outcomes have not been yielded yet."""

    def __init__(self, number: int, inputs: list[Any]) -> None:
        self.number = number
        # What has no outcome yet.
        self.inputs = inputs
        self.outcomes: list[Any] = []
        self.error: BaseException | None = None
        self.is_done = False
        self.attempt = 0
        self.failures = 0
        # Who works on it. None while it has to be submitted, for the first time or again.
        self.server: PooledServer | None = None


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
        self._taken = 0
        self._running = 0
        # In order: the outcomes of the first one are yielded next.
        self._scheduled: deque[_ScheduledShard] = deque()
        self._under_way: dict[Future[ShardResult], _ScheduledShard] = {}
        # The futures that are done, in the order in which that happened.
        self._ended: SignalSafeQueue[Future[ShardResult]] = SignalSafeQueue()
        # What ends the batch behind the shards that are done.
        self._fatal: BaseException | None = None
        # How many shards were done when the executor last broke, and how often it broke in a row since then.
        self._done = 0
        self._done_before = -1
        self._breaks = 0

    def outcomes(self, inputs: Iterator[Any]) -> Generator[Any, None, None]:
        """Yield the outcomes in order. Call :meth:`close` or :meth:`abandon` when nobody iterates any more."""
        while True:
            if self._fatal is None:
                self._take_inputs(inputs)
                self._submit()
            if not self._scheduled:
                return
            if self._scheduled[0].is_done:
                scheduled = self._scheduled.popleft()
                yield from scheduled.outcomes
                if scheduled.error is not None:
                    raise scheduled.error
            elif self._fatal is not None:
                raise self._fatal
            else:
                self._wait()

    def close(self) -> None:
        """Cancel what no worker has begun, and close what belongs to the batch.

        Blocks until the shards that are running have ended, if the executor was made here.
        """
        self._cancel()
        close_clients(self._options.batch)  # where the workers are threads of this process
        self._executor.close()

    def abandon(self) -> None:
        """Do what can be done of :meth:`close` in a finalizer, which must neither wait nor take a lock of ours."""
        abandon_clients(self._options.batch)
        self._cancel()
        self._executor.abandon()

    def _cancel(self) -> None:
        for future in list(self._under_way):
            future.cancel()
        self._under_way.clear()
        self._scheduled.clear()

    # --- from inputs to shards under way ----------------------------------------------------------------

    def _take_inputs(self, inputs: Iterator[Any]) -> None:
        while len(self._scheduled) < self._max_shards:
            taken = list(islice(inputs, self._shard_size))
            if not taken:
                break
            self._scheduled.append(_ScheduledShard(self._taken, taken))
            self._taken += 1

    def _submit(self) -> None:
        """Submit the shards that nobody works on, as far as there are servers for them, the first ones first."""
        for scheduled in self._scheduled:
            while scheduled.server is None and not scheduled.is_done and self._fatal is None:
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
        shard = Shard(scheduled.number, scheduled.inputs, scheduled.attempt)
        future = self._executor.submit(run_shard, self._options, server.endpoint, shard)
        scheduled.server = server
        self._running += len(scheduled.inputs)
        self.servers.started(server, len(scheduled.inputs))
        self._under_way[future] = scheduled
        future.add_done_callback(self._ended.put)

    # --- from shards under way to outcomes --------------------------------------------------------------

    def _wait(self) -> None:
        """Handle all shards that have ended. If there is none, wait for one, up to ``_NAP`` seconds."""
        if self._check is not None:
            self._check()
        self._tell()
        try:
            future = self._ended.get(_NAP)
            while True:
                self._take(future)
                future = self._ended.get(0)
        except Empty:
            self._or_fatal(self.servers.check)
        self._tell()

    def _tell(self) -> None:
        self._meter.unreachable = self.servers.unreachable()
        self._meter.tell(self._running)

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

    def _ended_without_result(self, future: Future[ShardResult], done: int = 0) -> PooledServer:
        scheduled = self._under_way.pop(future)
        server, scheduled.server = scheduled.server, None
        assert server is not None
        self._running -= len(scheduled.inputs)
        self.servers.ended(server, len(scheduled.inputs), done)
        return server

    def _failed(self, scheduled: _ScheduledShard, error: BaseException) -> None:
        scheduled.failures += 1
        if scheduled.failures >= _MAX_ATTEMPTS:
            scheduled.error, scheduled.is_done = error, True

    def _handle(self, future: Future[ShardResult], result: ShardResult) -> None:
        scheduled = self._under_way[future]
        server = self._ended_without_result(future, len(result.outcomes))
        for outcome in result.outcomes:
            self._meter.count(failed=isinstance(outcome, Exception))
        scheduled.outcomes += result.outcomes
        scheduled.inputs = scheduled.inputs[len(result.outcomes) :]
        error = result.error
        is_lost = isinstance(error, PieConnectionError)
        if result.outcomes or not (is_lost or result.lacks_program):
            self.servers.reached(server, len(result.outcomes), result.seconds)
        if isinstance(error, PieConnectionError):
            lost = error
            self._or_fatal(lambda: self.servers.lost(server, lost, was_there=result.was_reached))
        elif result.lacks_program:
            self._upload_to(server, scheduled)
        else:
            scheduled.error, scheduled.is_done = error, True
            self._done += 1

    def _upload_to(self, server: PooledServer, scheduled: _ScheduledShard) -> None:
        """Upload the program to a server that was not there before, or was started anew."""
        assert self._given is not None
        try:
            with closing(server.endpoint.connect()) as client:
                self._given.find(client._manager, "run_batch")
        except PieConnectionError as error:
            lost = error
            self._or_fatal(lambda: self.servers.lost(server, lost, was_there=True))
        except Exception as error:
            if is_from_signal_handler(error):
                raise
            self._failed(scheduled, error)

    def _or_fatal(self, call: Callable[[], None]) -> None:
        """Keep an error that ends the batch until the shards before it were yielded."""
        try:
            call()
        except PieConnectionError as error:
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


def _has_result(future: Future[ShardResult]) -> bool:
    """Say whether a future of a broken executor has a result. Blocks until that is decided."""
    try:
        return future.exception() is None
    except CancelledError:
        return False
