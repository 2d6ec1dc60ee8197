"""run_batch: checks its arguments, uploads the program, and starts the shards."""

from __future__ import annotations

import os
import uuid
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, Literal, TypeVar, overload

from .._connection.validation import check_count
from .._runs.journal import Journal, recorded
from .._runs.map import NEVER_WAIT
from .._runs.program_reference import GivenProgram, ProgramReference
from .._runs.progress import ProgressMeter, ProgressOption, meter_of
from .._runs.results import Results, check_on_error
from .._support.signal_handlers import is_from_signal_handler
from .._support.time_limits import check_polling_timeout, check_timeout
from ..errors import PieConnectionError
from ._executors import ExecutorProvider, ExecutorSource
from ._server_pool import ServerPool, ServerStatus
from ._servers import Endpoint, ServerSource, endpoints_of
from ._shards import ShardScheduler
from ._worker import BatchOptions, is_lasting

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterable, Mapping, Sequence

    from .._connection.validation import Arguments
    from .._functions.inferlet import Inferlet
    from .._runs.program_reference import KnownProgram, Program
    from ..errors import PieError
    from ..events import CompletedInstance

__all__ = ["BatchResults", "run_batch", "run_on_endpoints"]


R = TypeVar("R")
T = TypeVar("T")


class BatchResults(Results[T]):
    """The generator of a batch's outcomes. It waits for the executor when it ends, but not when it is collected.

    A generator in a cycle is collected wherever the garbage collector runs: perhaps in a thread that holds a lock
    of the executor's or of the worker's clients, or in a worker that the executor would wait for.

    Attributes:
        skipped: how many inputs were left out because of ``on_error="skip"``, up to now.
    """

    def __init__(
        self,
        outcomes: Generator[T, None, None],
        on_error: str,
        scheduler: Any,
        on_end: Callable[[], None],
    ) -> None:
        # (The type of the scheduler is not told above, since it is no part of the API.)
        super().__init__(outcomes, on_error, on_end)
        self._scheduler: ShardScheduler | None = scheduler
        self._servers: ServerPool = scheduler.servers

    @property
    def servers(self) -> tuple[ServerStatus, ...]:
        """What the batch knows of each server, in the order in which they were given."""
        return self._servers.status()

    def _ended(self) -> None:
        scheduler, self._scheduler = self._scheduler, None
        try:
            if scheduler is not None:
                scheduler.close()
        finally:
            super()._ended()

    def __del__(self) -> None:
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.abandon()


@overload
def run_batch(
    uri: ServerSource,
    program: Inferlet[..., R],
    inputs: Iterable[Arguments],
    executor: ExecutorSource = ...,
    *,
    username: str | None = ...,
    key: str | os.PathLike[str] | None = ...,
    shard_size: int = ...,
    max_shards: int = ...,
    concurrency: int = ...,
    retries: int = ...,
    return_exceptions: Literal[False] = ...,
    timeout: float | None = ...,
    on_error: Literal["raise", "skip"] | None = ...,
    results: str | os.PathLike[str] | None = ...,
    restart: bool = ...,
    progress: ProgressOption = ...,
    server_timeout: float | None = ...,
    client_options: Mapping[str, Any] | None = ...,
) -> BatchResults[CompletedInstance[R]]: ...
@overload
def run_batch(
    uri: ServerSource,
    program: KnownProgram,
    inputs: Iterable[Arguments],
    executor: ExecutorSource = ...,
    *,
    username: str | None = ...,
    key: str | os.PathLike[str] | None = ...,
    shard_size: int = ...,
    max_shards: int = ...,
    concurrency: int = ...,
    retries: int = ...,
    return_exceptions: Literal[False] = ...,
    timeout: float | None = ...,
    on_error: Literal["raise", "skip"] | None = ...,
    results: str | os.PathLike[str] | None = ...,
    restart: bool = ...,
    progress: ProgressOption = ...,
    server_timeout: float | None = ...,
    client_options: Mapping[str, Any] | None = ...,
) -> BatchResults[CompletedInstance[Any]]: ...
@overload
def run_batch(
    uri: ServerSource,
    program: Callable[..., Coroutine[Any, Any, R]],
    inputs: Iterable[Arguments],
    executor: ExecutorSource = ...,
    *,
    username: str | None = ...,
    key: str | os.PathLike[str] | None = ...,
    shard_size: int = ...,
    max_shards: int = ...,
    concurrency: int = ...,
    retries: int = ...,
    return_exceptions: Literal[False] = ...,
    timeout: float | None = ...,
    on_error: Literal["raise", "skip"] | None = ...,
    results: str | os.PathLike[str] | None = ...,
    restart: bool = ...,
    progress: ProgressOption = ...,
    server_timeout: float | None = ...,
    client_options: Mapping[str, Any] | None = ...,
) -> BatchResults[CompletedInstance[R]]: ...
@overload
def run_batch(
    uri: ServerSource,
    program: Callable[..., R],
    inputs: Iterable[Arguments],
    executor: ExecutorSource = ...,
    *,
    username: str | None = ...,
    key: str | os.PathLike[str] | None = ...,
    shard_size: int = ...,
    max_shards: int = ...,
    concurrency: int = ...,
    retries: int = ...,
    return_exceptions: Literal[False] = ...,
    timeout: float | None = ...,
    on_error: Literal["raise", "skip"] | None = ...,
    results: str | os.PathLike[str] | None = ...,
    restart: bool = ...,
    progress: ProgressOption = ...,
    server_timeout: float | None = ...,
    client_options: Mapping[str, Any] | None = ...,
) -> BatchResults[CompletedInstance[R]]: ...
@overload
def run_batch(
    uri: ServerSource,
    program: Inferlet[..., R],
    inputs: Iterable[Arguments],
    executor: ExecutorSource = ...,
    *,
    username: str | None = ...,
    key: str | os.PathLike[str] | None = ...,
    shard_size: int = ...,
    max_shards: int = ...,
    concurrency: int = ...,
    retries: int = ...,
    return_exceptions: bool = ...,
    timeout: float | None = ...,
    on_error: Literal["raise", "yield", "skip"] | None = ...,
    results: str | os.PathLike[str] | None = ...,
    restart: bool = ...,
    progress: ProgressOption = ...,
    server_timeout: float | None = ...,
    client_options: Mapping[str, Any] | None = ...,
) -> BatchResults[CompletedInstance[R] | PieError]: ...
@overload
def run_batch(
    uri: ServerSource,
    program: KnownProgram,
    inputs: Iterable[Arguments],
    executor: ExecutorSource = ...,
    *,
    username: str | None = ...,
    key: str | os.PathLike[str] | None = ...,
    shard_size: int = ...,
    max_shards: int = ...,
    concurrency: int = ...,
    retries: int = ...,
    return_exceptions: bool = ...,
    timeout: float | None = ...,
    on_error: Literal["raise", "yield", "skip"] | None = ...,
    results: str | os.PathLike[str] | None = ...,
    restart: bool = ...,
    progress: ProgressOption = ...,
    server_timeout: float | None = ...,
    client_options: Mapping[str, Any] | None = ...,
) -> BatchResults[CompletedInstance[Any] | PieError]: ...
@overload
def run_batch(
    uri: ServerSource,
    program: Callable[..., Coroutine[Any, Any, R]],
    inputs: Iterable[Arguments],
    executor: ExecutorSource = ...,
    *,
    username: str | None = ...,
    key: str | os.PathLike[str] | None = ...,
    shard_size: int = ...,
    max_shards: int = ...,
    concurrency: int = ...,
    retries: int = ...,
    return_exceptions: bool = ...,
    timeout: float | None = ...,
    on_error: Literal["raise", "yield", "skip"] | None = ...,
    results: str | os.PathLike[str] | None = ...,
    restart: bool = ...,
    progress: ProgressOption = ...,
    server_timeout: float | None = ...,
    client_options: Mapping[str, Any] | None = ...,
) -> BatchResults[CompletedInstance[R] | PieError]: ...
@overload
def run_batch(
    uri: ServerSource,
    program: Callable[..., R],
    inputs: Iterable[Arguments],
    executor: ExecutorSource = ...,
    *,
    username: str | None = ...,
    key: str | os.PathLike[str] | None = ...,
    shard_size: int = ...,
    max_shards: int = ...,
    concurrency: int = ...,
    retries: int = ...,
    return_exceptions: bool = ...,
    timeout: float | None = ...,
    on_error: Literal["raise", "yield", "skip"] | None = ...,
    results: str | os.PathLike[str] | None = ...,
    restart: bool = ...,
    progress: ProgressOption = ...,
    server_timeout: float | None = ...,
    client_options: Mapping[str, Any] | None = ...,
) -> BatchResults[CompletedInstance[R] | PieError]: ...
def run_batch(
    uri: ServerSource,
    program: Program,
    inputs: Iterable[Arguments],
    executor: ExecutorSource = None,
    *,
    username: str | None = None,
    key: str | os.PathLike[str] | None = None,
    shard_size: int = 128,
    max_shards: int = 64,
    concurrency: int = 16,
    retries: int = 0,
    return_exceptions: bool = False,
    timeout: float | None = None,
    on_error: Literal["raise", "yield", "skip"] | None = None,
    results: str | os.PathLike[str] | None = None,
    restart: bool = False,
    progress: ProgressOption = None,
    server_timeout: float | None = 60.0,
    client_options: Mapping[str, Any] | None = None,
) -> BatchResults[Any]:
    """Run one instance for each input, on all workers of an executor; yield the results in order.

    The inputs are cut into shards. A worker runs a shard with ``client.map``, over a client of its own, which it
    keeps for further shards of the batch. The client is closed when the worker ends, or begins another batch.

    Threads of the calling process hand over each outcome when it is there. A worker elsewhere launches no more of
    its shard after 5 s, or twice the duration of its longest instance if that is more; it returns the outcomes of
    what it has launched, and the rest of the shard is submitted again, before all others.

    With several servers, a shard goes to the one that has the fewest under way, relative to its speed so far. A
    server that can't be reached, loses its connection or refuses the user has its shards run elsewhere; so has a
    server that does not launch the program, while another one does. It is tried again, with one shard, after
    0.5 s, then after pauses that double up to 30 s; the logger ``pie_sync.batch`` has a warning. Servers of all
    generations of the protocol may be mixed; some of them (Pie 0.3 and 0.4) want the name of a program with its
    version. Each server needs the program: a function or a file is uploaded to every server that lacks it, also
    when that comes later or was started anew.

    A shard is run again when its worker has died, three times in a row at the most, and the rest of it when it has
    lost its connection. So an instance may be run twice. (On a server up to Pie 0.4, instances of a dead worker
    run to their end, unattended.) An executor that breaks with its worker (``ProcessPoolExecutor``) is replaced by
    a new one if ``executor`` is a callable; three times in a row without a shard in between end the batch.

    The call itself blocks only to upload a function or a file, to one server after the other. The shards are
    submitted when the first result is asked for; each result blocks until its shard has ended, without a limit of
    its own. The generator is for one thread at a time.

    To stop early, close the generator: shards that no worker has begun are cancelled, those that are running go on
    to their end (in threads of this process their instances are terminated), and an executor that was made here is
    waited for. A generator that is dropped does the same, but waits for nothing.

    Args:
        program: a function, a registry name, a program's hash, or the path of a file, as for
            :meth:`PieClient.run`. A function or a file is uploaded from the calling process, unless the server has
            it; the workers don't need it.
        uri: the address of the Pie server, as for :class:`PieClient`, at which the workers reach it; or a
            :class:`Server`; or a list of both, for several servers.
        inputs: the arguments of each instance, as for :meth:`PieClient.map`; they may be endless, and wait for
            earlier results. An input is taken when there is a place for its shard. Unless the inputs are a list or
            the like, a daemon thread takes them, with a copy of the caller's ``contextvars``; the end of the
            batch waits for up to 1 s while it is at work. (What is bound to its thread, such as a connection of
            ``sqlite3``, must not be: ``check_same_thread=False``.)
        executor: a ``concurrent.futures.Executor``, or a callable without arguments that makes one, and is called
            again when that breaks (a class, a ``functools.partial``); executors that it made are shut down in the
            end. None: a ``ProcessPoolExecutor`` that spawns a process for each processor. Of Dask:
            ``client.get_executor()``. Of Ray: :class:`RayExecutor`.
        username: the name to authenticate with. None: the login name in the calling process.
        key: the path of a private key without a password, which each worker reads for itself, or ``"agent"`` for
            the ssh-agent of each worker. The key itself never travels. None: authenticate without a key.
        shard_size: how many inputs make a shard. A smaller shard spreads short batches better and loses less with
            a worker; a larger one keeps the workers busier, since a shard ends with its slowest instance. Inputs
            that wait for 0.1 s for others while a worker is idle make a smaller shard.
        max_shards: how many shards may be submitted, or wait to be yielded. So many inputs and results are in
            the memory of the calling process. At least twice the number of workers keeps them busy. With several
            servers, no more shards are submitted than the executor has workers and the batch has servers, if the
            executor tells how many workers it has (those of the standard library and :class:`RayExecutor` do).
        concurrency: how many instances of a shard run at a time, as for :meth:`PieClient.map`.
        retries: how often to launch a failed instance again, as for :meth:`PieClient.map`.
        timeout: the time limit of each instance in seconds, as for :meth:`PieClient.map`. None is without limit.
        return_exceptions: the older name of ``on_error="yield"``.
        on_error: ``"raise"``, ``"yield"`` or ``"skip"``, as for :meth:`PieClient.map`. None is ``"raise"``.
        results: the path of a journal in the calling process, as for :meth:`PieClient.map`: the same call resumes
            the batch behind the lines that are there. What has run, but was not to be yielded yet, runs again.
        restart: begin anew, as for :meth:`PieClient.map`.
        progress: a function that is called with a :class:`BatchProgress`, or True for a bar, as for
            :meth:`PieClient.map`. It counts outcomes when they have come back from their worker; ``running`` is
            at most what the workers can run, if the executor tells how many it has.
        server_timeout: for how many seconds no server may be there before the batch fails, counted from the loss
            of the last one, or from the beginning. None is for ever. What does not pass is not waited for, if it
            concerns all servers: a user or a key that is refused, the name of a host that does not exist, a
            certificate that is not trusted.
        client_options: more arguments of each worker's :class:`PieClient`, which must be picklable (an
            ``ssl_context`` is not).

    Yields:
        a :class:`CompletedInstance` for each input, in order; or a :exc:`PieError`, see ``on_error``. The
        generator has two attributes more: ``skipped``, the number of inputs that were left out, and ``servers``, a
        tuple with a :class:`ServerStatus` for each server.

    Raises:
        TypeError, PieValueError: an argument makes no sense; or ``results`` is of another program or other inputs.
        InvalidKeyError: a worker can't use the key.
        InstanceFailed, LaunchError, ProtocolError, PieTimeoutError: at the place of an instance that has failed.
        AuthenticationError: no server knows the user.
        PieConnectionError: no server was there for ``server_timeout`` seconds, or none ever will be.
        Exception: what the iterator of ``inputs`` raises, behind the results of the inputs before it.
        concurrent.futures.BrokenExecutor: the executor is broken, and can't be replaced or breaks three times in a
            row.
        OSError: a file can't be read, or ``results`` can't be written.
        ImportError: ``progress=True``, and there is no tqdm.
    """
    return run_on_endpoints(
        endpoints_of(uri, username, key, client_options),
        program,
        inputs,
        executor,
        shard_size=shard_size,
        max_shards=max_shards,
        concurrency=concurrency,
        retries=retries,
        on_error=check_on_error(on_error, return_exceptions),
        results=results,
        restart=restart,
        progress=progress,
        timeout=check_timeout(timeout),
        server_timeout=check_polling_timeout(server_timeout, "server_timeout"),
        in_thread=True,
    )


def run_on_endpoints(  # noqa: D417 - the other arguments are those of run_batch
    endpoints: Sequence[Endpoint],
    program: Program,
    inputs: Iterable[Any],
    executor: ExecutorSource,
    *,
    shard_size: int,
    max_shards: int,
    concurrency: int,
    retries: int,
    on_error: str,
    server_timeout: float | None,
    timeout: float | None = None,
    results: str | os.PathLike[str] | None = None,
    restart: bool = False,
    progress: ProgressOption | ProgressMeter = None,
    shards_each: int | None = None,
    in_thread: bool = False,
    check: Callable[[], None] | None = None,
) -> BatchResults[Any]:
    """Implement :func:`run_batch`, and the command's batches over several servers.

    Args:
        endpoints: the servers.
        shards_each: how many shards one server may have under way; None for any number.
        in_thread, check: see :class:`ShardScheduler`.
        program: this and all others, see :func:`run_batch`.
    """
    given = GivenProgram(program)
    options = BatchOptions(
        batch=str(uuid.uuid4()),
        program=given.reference,
        concurrency=check_count(concurrency, "concurrency", least=1),
        retries=check_count(retries, "retries", least=0),
        # What is skipped is skipped here, where it is counted.
        on_error="yield" if on_error == "skip" else on_error,
        timeout=timeout,
        is_uploaded=given.is_sent,
    )
    check_count(shard_size, "shard_size", least=1)
    check_count(max_shards, "max_shards", least=1)
    provider = ExecutorProvider(executor)
    iterator = iter(inputs)
    meter = meter_of(progress, inputs)
    pool = ServerPool(endpoints, server_timeout, shards_each)
    if given.is_sent:
        options = replace(options, program=_upload(pool, given))
    scheduler = ShardScheduler(
        options,
        pool,
        provider,
        shard_size=shard_size,
        max_shards=max_shards,
        given=given if given.is_sent else None,
        meter=meter,
        in_thread=in_thread and type(iterator) not in NEVER_WAIT,
        check=check,
    )
    with ExitStack() as stack:
        stack.callback(meter.close)
        if results is None:
            outcomes = scheduler.outcomes(iterator)
        else:
            batch = {"retries": retries, "on_error": on_error, "timeout": timeout}
            journal = Journal(results, {"program": options.program.identity, **batch}, restart=restart)
            stack.callback(journal.close)
            outcomes = recorded(journal, iterator, scheduler.outcomes, meter, options.program.result_form)
        return BatchResults(outcomes, on_error, scheduler, stack.pop_all().close)


def _upload(pool: ServerPool, given: GivenProgram) -> ProgramReference:
    """Upload the program to each server that lacks it, and return its reference. A server that is not there waits.

    Raises:
        PieError, OSError: none can ever be used, or the program can't be uploaded.
        PieConnectionError: none is there, and none is to be waited for.
    """
    for server in pool.servers:
        try:
            client = server.endpoint.connect()
        except Exception as error:
            if is_from_signal_handler(error):
                raise
            pool.lost(server, error, server.period, is_lasting=is_lasting(error))
            continue
        try:
            with client:
                given.find(client._manager, "run_batch")
        except PieConnectionError as error:
            pool.lost(server, error, server.period)
    return given.with_hash()
