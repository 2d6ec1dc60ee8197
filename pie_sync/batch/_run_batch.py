"""Shards of inputs, spread over an executor, and put together again."""

from __future__ import annotations

import getpass
import os
import pickle
import uuid
from collections import deque
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Callable, Union

from .._connection.validation import check_count, check_text, check_uri
from .._runs.program_reference import ProgramReference, is_program_file
from ..errors import InvalidKeyError, PieConnectionError
from ..keys import ParsedPrivateKey
from ._worker import Plan, Report, close_clients, connect, run_shard

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from .._connection.validation import Arguments
    from .._runs.program_reference import Program

__all__ = ["run_batch"]

#: How often in a row a shard, or the whole executor, may fail before it's given up.
_ATTEMPTS = 3

ExecutorSource = Union[Executor, Callable[[], Executor], None]


def run_batch(
    uri: str,
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
    client_options: Mapping[str, Any] | None = None,
) -> Generator[Any, None, None]:
    """Run one instance for each input, on all workers of an executor; yield the results in order.

    The inputs are cut into shards. A worker runs a shard with ``client.map``, over a client of its own, which it
    keeps for further shards of the batch. It's closed when the worker ends, or begins with another batch.

    A shard is run again, from its beginning, when its worker has died or has lost its connection: so an instance
    may be run twice. (What a dead worker leaves running on a server up to Pie 0.4 runs to its end, unattended.)
    Three such failures in a row end the batch. An executor that breaks with its worker (``ProcessPoolExecutor``)
    is replaced by a new one if ``executor`` is a callable.

    Nothing happens before the first result is asked for, except that a program in a file is uploaded. Stop early
    by closing the generator, or by dropping it: shards that no worker has begun are cancelled, the others go on
    to their end; an executor that was made here is then waited for.

    Args:
        uri: the Pie server, as for :class:`PieClient`, as the workers can reach it.
        program: a registry name, a program's hash, or the path of a file. A file is uploaded from here, unless the
            server has it: the workers don't need it.
        inputs: for each instance its arguments, as for :meth:`PieClient.map`; they may be endless.
        executor: where to work: a ``concurrent.futures.Executor``, or a callable without arguments that makes
            one, and is asked again when that breaks (a class, a ``functools.partial``); what it has made is shut
            down in the end. None: a ``ProcessPoolExecutor`` that spawns a process for each processor. Of Dask:
            ``client.get_executor()``. Ray has no executor; a class whose ``submit(function, *args)`` returns
            ``ray.remote(function).remote(*args).future()`` is one.
        username: as whom to authenticate. None: the login name, here.
        key: how: the path of a private key without a password, which each worker reads for itself, or ``"agent"``
            for the ssh-agent of each worker. The key itself never travels. None: without a key.
        shard_size: how many inputs make a shard. Less spreads short batches better and loses less with a worker;
            more keeps the workers busier, for a shard ends with its slowest instance.
        max_shards: how many shards may be on their way, or wait to be yielded: so many inputs and results are in
            memory here. Twice as many as there are workers, at the least, keeps those busy.
        concurrency: how many instances of a shard run at a time, as for :meth:`PieClient.map`.
        retries: how often to launch a failed instance again, as for :meth:`PieClient.map`.
        return_exceptions: yield the ``PieError`` of a failed instance at its place rather than raise it.
        client_options: more arguments of each worker's :class:`PieClient`. They must be such that they can be
            pickled (an ``ssl_context`` can't).

    Yields:
        a :class:`CompletedInstance` for each input, in order; or a :exc:`PieError`, see ``return_exceptions``.

    Raises:
        TypeError, ValueError: an argument makes no sense.
        InvalidKeyError: the key can't be used.
        InstanceFailed, LaunchError, ProtocolError, PieTimeoutError: at the place of an instance that has failed.
        AuthenticationError: the server does not know you.
        PieConnectionError: a worker can't reach the server, or loses it again and again.
        concurrent.futures.BrokenExecutor: the executor is broken, and can't be replaced or breaks again and again.
        OSError: a file can't be read.
    """
    options = _check_options(client_options)
    plan = Plan(
        batch=str(uuid.uuid4()),
        uri=check_uri(uri),
        username=getpass.getuser() if username is None else check_text(username, "username"),
        key=_check_key(key),
        client_options=options,
        program=os.fspath(program) if isinstance(program, os.PathLike) else program,
        concurrency=check_count(concurrency, "concurrency", least=1),
        retries=check_count(retries, "retries", least=0),
        return_exceptions=bool(return_exceptions),
    )
    check_count(shard_size, "shard_size", least=1)
    check_count(max_shards, "max_shards", least=1)
    pool = _Pool(executor)
    iterator = iter(inputs)
    if is_program_file(program):
        with connect(plan) as client:
            found = ProgramReference.find(client._manager, program).hash
        assert found is not None
        plan = plan.with_program(found)
    return _Shards(plan, iterator, pool, shard_size, max_shards).results()


def _check_key(key: Any) -> str | None:
    if key is None:
        return None
    if not isinstance(key, (str, os.PathLike)):
        raise TypeError(
            f'key must be the path of a private key, or "agent", not {type(key).__name__}: a key does not travel'
        )
    if key == "agent":
        if not hasattr(ParsedPrivateKey, "from_agent"):
            raise InvalidKeyError(
                'key="agent": this version of pie-sync has no ssh-agent; give the path of a file'
            )
        return "agent"
    path = os.fspath(key)
    if not isinstance(path, str):
        raise TypeError("key must be str or os.PathLike[str], not bytes")
    # Relative to where we are, which workers of this machine may not be. "~" is theirs to expand.
    return path if path.startswith("~") else os.path.abspath(path)


def _check_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"client_options must be a mapping, not {type(options).__name__}")
    for name, value in options.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            raise TypeError(f"client_options[{name!r}] can't be sent to the workers: {error}") from error
    return dict(options)


class _Pool:
    """The executor, and how to get another one."""

    def __init__(self, source: ExecutorSource) -> None:
        self._make: Callable[[], Executor] | None = None
        self._executor: Executor | None = None
        if source is None:
            self._make = _spawning_executor
        elif callable(getattr(source, "submit", None)) and not isinstance(source, type):
            self._executor = source  # type: ignore[assignment]  # anything that has a submit() like an Executor's
        elif callable(source):
            self._make = source
        else:
            raise TypeError(
                f"executor must be an Executor, or a callable that makes one, not {type(source).__name__}"
            )

    def submit(self, *call: Any) -> Future[Any]:
        if self._executor is None:
            assert self._make is not None
            self._executor = self._make()
        return self._executor.submit(*call)

    def replace(self, broken: BrokenExecutor) -> None:
        if self._make is None:
            raise type(broken)(
                f"{broken} (pass a callable that makes executors, so that the batch can go on with a new one)"
            ) from broken
        self.close()

    def close(self) -> None:
        """Shut down the executor if it was made here. Waits for what it is doing."""
        if self._make is not None and self._executor is not None:
            self._executor.shutdown()
            self._executor = None


def _spawning_executor() -> Executor:
    # Not "fork", which is the default on some systems and harms programs with threads.
    return ProcessPoolExecutor(mp_context=get_context("spawn"))


class _Shard:
    """Some inputs on their way to their outcomes."""

    def __init__(self, number: int, inputs: list[Any]) -> None:
        self.number = number
        self.inputs = inputs
        self.attempts = 0
        self.future: Future[Report] | None = None


class _Shards:
    """The shards of one batch. Used by one thread at a time."""

    def __init__(self, plan: Plan, inputs: Iterator[Any], pool: _Pool, shard_size: int, max_shards: int) -> None:
        self._plan = plan
        self._inputs = inputs
        self._pool = pool
        self._shard_size = shard_size
        self._max_shards = max_shards
        self._taken = 0
        # In order; the first one is the next to be yielded.
        self._line: deque[_Shard] = deque()
        # How many shards were done when the executor broke, and how often it did so without one more.
        self._done_before = -1
        self._breaks = 0

    def results(self) -> Generator[Any, None, None]:
        """Yield the outcomes in order."""
        try:
            while True:
                self._submit_more()
                if not self._line:
                    return
                report = self._wait_for(self._line[0])
                self._line.popleft()
                yield from report.outcomes
                if report.error is not None:
                    raise report.error
        finally:
            for shard in self._line:
                if shard.future is not None:
                    shard.future.cancel()
            # Where the workers are threads of this process, their client is ours to close.
            close_clients(self._plan.batch)
            self._pool.close()

    def _submit_more(self) -> None:
        while len(self._line) < self._max_shards:
            inputs = list(islice(self._inputs, self._shard_size))
            if not inputs:
                break
            self._line.append(_Shard(self._taken, inputs))
            self._taken += 1
        self._submit()

    def _submit(self) -> None:
        """Submit what is not on its way, to a new executor if need be."""
        while True:
            try:
                for shard in self._line:
                    if shard.future is None:
                        # The attempt makes it another task: Dask would give the same one the same result.
                        shard.attempts += 1
                        shard.future = self._pool.submit(
                            run_shard, self._plan, shard.inputs, shard.number, shard.attempts
                        )
            except BrokenExecutor as broken:
                self._replace_executor(broken)
            else:
                return

    def _wait_for(self, shard: _Shard) -> Report:
        """Block until a shard is done, however often it must be run for that."""
        while True:
            assert shard.future is not None
            try:
                report = shard.future.result()
            except BrokenExecutor as broken:
                self._replace_executor(broken)
                self._submit()
                continue
            except (Exception, CancelledError) as error:  # the worker is lost: run_shard() itself raises nothing
                failure = error
            else:
                if not isinstance(report.error, PieConnectionError):
                    return report
                failure = report.error
            if shard.attempts >= _ATTEMPTS:
                raise failure
            shard.future = None
            self._submit()

    def _replace_executor(self, broken: BrokenExecutor) -> None:
        """Get another executor. What the broken one has not done is not on its way any more."""
        undone = [shard for shard in self._line if shard.future is None or not _succeeded(shard.future)]
        done = self._taken - len(undone)
        self._breaks = self._breaks + 1 if done == self._done_before else 1
        self._done_before = done
        if self._breaks >= _ATTEMPTS:
            raise broken
        self._pool.replace(broken)
        for shard in undone:
            if shard.future is not None:
                shard.future = None
                shard.attempts = 0  # nobody knows which of them has broken it


def _succeeded(future: Future[Report]) -> bool:
    """Say whether a future of a broken executor has a result. Blocks until it's decided."""
    try:
        return future.exception() is None
    except CancelledError:
        return False
