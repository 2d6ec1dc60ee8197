"""Cuts the inputs of a batch into shards, submits them, and yields their outcomes in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import BrokenExecutor, CancelledError, Future
from itertools import islice
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from .._support.signal_handlers import is_from_signal_handler
from ..errors import PieConnectionError
from ._worker import BatchOptions, Shard, ShardResult, abandon_clients, close_clients, run_shard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._executors import ExecutorProvider

__all__ = ["BatchResults", "ShardScheduler"]

#: How often in a row a shard, or the whole executor, may fail before the batch ends.
_MAX_ATTEMPTS = 3


class _ScheduledShard:
    """A shard whose outcomes have not been yielded yet."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        # None while the shard has to be submitted, for the first time or again.
        self.future: Future[ShardResult] | None = None


class ShardScheduler:
    """The shards of one batch. Used by one thread at a time.

    Args:
        options: the options of the batch.
        inputs: its inputs, which may be endless.
        executor: what runs the shards.
        shard_size: how many inputs make a shard.
        max_shards: how many shards may be submitted, or have results that were not yielded.
    """

    def __init__(
        self,
        options: BatchOptions,
        inputs: Iterator[Any],
        executor: ExecutorProvider,
        shard_size: int,
        max_shards: int,
    ) -> None:
        self._options = options
        self._inputs = inputs
        self._executor = executor
        self._shard_size = shard_size
        self._max_shards = max_shards
        self._taken = 0
        # In order: the outcomes of the first one are yielded next.
        self._scheduled: deque[_ScheduledShard] = deque()
        # How many shards had a result when the executor last broke, and how often it broke in a row since then.
        self._succeeded_before = -1
        self._breaks = 0

    def outcomes(self) -> Generator[Any, None, None]:
        """Yield the outcomes in order. Call :meth:`close` or :meth:`abandon` when nobody iterates any more."""
        while True:
            self._take_inputs()
            self._submit()
            if not self._scheduled:
                return
            result = self._wait_for(self._scheduled[0])
            self._scheduled.popleft()
            yield from result.outcomes
            if result.error is not None:
                raise result.error

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
        for scheduled in self._scheduled:
            if scheduled.future is not None:
                scheduled.future.cancel()
        self._scheduled.clear()

    def _take_inputs(self) -> None:
        while len(self._scheduled) < self._max_shards:
            inputs = list(islice(self._inputs, self._shard_size))
            if not inputs:
                break
            self._scheduled.append(_ScheduledShard(Shard(self._taken, inputs)))
            self._taken += 1

    def _submit(self) -> None:
        """Submit every shard that is not submitted, to a new executor if the present one is broken."""
        while True:
            try:
                for scheduled in self._scheduled:
                    if scheduled.future is None:
                        scheduled.shard = scheduled.shard.next_attempt()
                        scheduled.future = self._executor.submit(run_shard, self._options, scheduled.shard)
            except BrokenExecutor as broken:
                self._replace_executor(broken)
            else:
                return

    def _wait_for(self, scheduled: _ScheduledShard) -> ShardResult:
        """Block until a shard has its result, and return it. Submits the shard again when its worker is lost."""
        while True:
            assert scheduled.future is not None
            try:
                result = scheduled.future.result()
            except BrokenExecutor as broken:
                self._replace_executor(broken)
                self._submit()
                continue
            except (Exception, CancelledError) as error:  # the worker is lost, since run_shard() raises nothing
                if is_from_signal_handler(error):
                    raise
                failure = error
            else:
                if not isinstance(result.error, PieConnectionError):
                    return result
                failure = result.error
            if scheduled.shard.attempt >= _MAX_ATTEMPTS:
                raise failure
            scheduled.future = None
            self._submit()

    def _replace_executor(self, broken: BrokenExecutor) -> None:
        """Get another executor. All shards without a result have to be submitted again."""
        unfinished = [one for one in self._scheduled if one.future is None or not _has_result(one.future)]
        succeeded = self._taken - len(unfinished)
        self._breaks = self._breaks + 1 if succeeded == self._succeeded_before else 1
        self._succeeded_before = succeeded
        if self._breaks >= _MAX_ATTEMPTS:
            raise broken
        self._executor.replace(broken)
        for scheduled in unfinished:
            if scheduled.future is not None:
                scheduled.future = None
                # Any of them may have broken the executor, so none is blamed for it.
                scheduled.shard = Shard(scheduled.shard.number, scheduled.shard.inputs)


def _has_result(future: Future[ShardResult]) -> bool:
    """Say whether a future of a broken executor has a result. Blocks until that is decided."""
    try:
        return future.exception() is None
    except CancelledError:
        return False


class BatchResults(Generator[Any, None, None]):
    """The generator of a batch's outcomes. It waits for the executor when it ends, but not when it is collected.

    A generator in a cycle is collected wherever the garbage collector runs: perhaps in a thread that holds a lock
    of the executor's or of the worker's clients, or in a worker that the executor would wait for.
    """

    def __init__(self, scheduler: ShardScheduler) -> None:
        self._scheduler: ShardScheduler | None = scheduler
        outcomes = scheduler.outcomes()
        assert isinstance(outcomes, GeneratorType)
        self._outcomes = outcomes

    def send(self, value: None) -> Any:
        """Return the next outcome; see ``generator.send``."""
        try:
            return self._outcomes.send(value)
        finally:
            self._close_if_ended()

    def throw(self, *exception: Any) -> Any:
        """Raise an exception where the generator waits; see ``generator.throw``."""
        try:
            return self._outcomes.throw(*exception)
        finally:
            self._close_if_ended()

    def close(self) -> None:
        """End the batch, as :meth:`ShardScheduler.close` says."""
        self._outcomes.close()
        self._close_if_ended()

    def _close_if_ended(self) -> None:
        # Not ended: it has yielded, or another thread is in it, and then this call has failed.
        if self._outcomes.gi_frame is None and self._scheduler is not None:
            scheduler, self._scheduler = self._scheduler, None
            scheduler.close()

    def __del__(self) -> None:
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.abandon()
