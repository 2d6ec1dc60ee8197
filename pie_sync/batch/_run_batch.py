"""run_batch: checks its arguments, uploads the program, and starts the shards."""

from __future__ import annotations

import getpass
import os
import pickle
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, Literal, TypeVar, overload

from .._connection.validation import check_count, check_text, check_uri
from .._runs.program_reference import GivenProgram
from .._support.time_limits import check_timeout
from ._executors import ExecutorProvider, ExecutorSource
from ._shards import BatchResults, ShardScheduler
from ._worker import BatchOptions, connect

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterable

    from .._connection.validation import Arguments
    from .._functions.inferlet import Inferlet
    from .._runs.program_reference import KnownProgram, Program
    from ..errors import PieError
    from ..events import CompletedInstance

__all__ = ["run_batch"]

R = TypeVar("R")


@overload
def run_batch(
    uri: str,
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
    client_options: Mapping[str, Any] | None = ...,
) -> Generator[CompletedInstance[R], None, None]: ...
@overload
def run_batch(
    uri: str,
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
    client_options: Mapping[str, Any] | None = ...,
) -> Generator[CompletedInstance[Any], None, None]: ...
@overload
def run_batch(
    uri: str,
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
    client_options: Mapping[str, Any] | None = ...,
) -> Generator[CompletedInstance[R], None, None]: ...
@overload
def run_batch(
    uri: str,
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
    client_options: Mapping[str, Any] | None = ...,
) -> Generator[CompletedInstance[R], None, None]: ...
@overload
def run_batch(
    uri: str,
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
    return_exceptions: bool,
    client_options: Mapping[str, Any] | None = ...,
) -> Generator[CompletedInstance[R] | PieError, None, None]: ...
@overload
def run_batch(
    uri: str,
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
    return_exceptions: bool,
    client_options: Mapping[str, Any] | None = ...,
) -> Generator[CompletedInstance[Any] | PieError, None, None]: ...
@overload
def run_batch(
    uri: str,
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
    return_exceptions: bool,
    client_options: Mapping[str, Any] | None = ...,
) -> Generator[CompletedInstance[R] | PieError, None, None]: ...
@overload
def run_batch(
    uri: str,
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
    return_exceptions: bool,
    client_options: Mapping[str, Any] | None = ...,
) -> Generator[CompletedInstance[R] | PieError, None, None]: ...
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
    timeout: float | None = None,
    client_options: Mapping[str, Any] | None = None,
) -> Generator[Any, None, None]:
    """Run one instance for each input, on all workers of an executor; yield the results in order.

    The inputs are cut into shards. A worker runs a shard with ``client.map``, over a client of its own, which it
    keeps for further shards of the batch. The client is closed when the worker ends, or begins another batch.

    A shard is run again from its beginning when its worker has died or has lost its connection, so an instance may
    be run twice. (On a server up to Pie 0.4, instances of a dead worker run to their end, unattended.) Three such
    failures in a row end the batch. An executor that breaks with its worker (``ProcessPoolExecutor``) is replaced
    by a new one if ``executor`` is a callable.

    The call itself blocks only to upload a function or a file. The shards are submitted when the first result is
    asked for; each result blocks until its shard has ended, without a limit of its own. The generator is for one
    thread at a time.

    To stop early, close the generator: shards that no worker has begun are cancelled, those that are running go on
    to their end (in threads of this process they lose their connection), and an executor that was made here is
    waited for. A generator that is dropped does the same, but waits for nothing.

    Args:
        uri: the address of the Pie server, as for :class:`PieClient`, at which the workers reach it.
        program: a function, a registry name, a program's hash, or the path of a file, as for
            :meth:`PieClient.run`. A function or a file is uploaded from the calling process, unless the server has
            it; the workers don't need it.
        inputs: the arguments of each instance, as for :meth:`PieClient.map`; they may be endless.
        executor: a ``concurrent.futures.Executor``, or a callable without arguments that makes one, and is called
            again when that breaks (a class, a ``functools.partial``); executors that it made are shut down in the
            end. None: a ``ProcessPoolExecutor`` that spawns a process for each processor. Of Dask:
            ``client.get_executor()``. Ray has no executor; a class whose ``submit(function, *args)`` returns
            ``ray.remote(function).remote(*args).future()`` is one.
        username: the name to authenticate with. None: the login name in the calling process.
        key: the path of a private key without a password, which each worker reads for itself, or ``"agent"`` for
            the ssh-agent of each worker. The key itself never travels. None: authenticate without a key.
        shard_size: how many inputs make a shard. A smaller shard spreads short batches better and loses less with
            a worker; a larger one keeps the workers busier, since a shard ends with its slowest instance.
        max_shards: how many shards may be submitted, or wait to be yielded. So many inputs and results are in
            the memory of the calling process. At least twice the number of workers keeps them busy.
        concurrency: how many instances of a shard run at a time, as for :meth:`PieClient.map`.
        retries: how often to launch a failed instance again, as for :meth:`PieClient.map`.
        return_exceptions: yield the ``PieError`` of a failed instance at its place rather than raise it.
        timeout: the time limit of each instance in seconds, as for :meth:`PieClient.map`. None is without limit.
        client_options: more arguments of each worker's :class:`PieClient`, which must be picklable (an
            ``ssl_context`` is not).

    Yields:
        a :class:`CompletedInstance` for each input, in order; or a :exc:`PieError`, see ``return_exceptions``.

    Raises:
        TypeError, ValueError: an argument makes no sense.
        InvalidKeyError: a worker can't use the key.
        InstanceFailed, LaunchError, ProtocolError, PieTimeoutError: at the place of an instance that has failed.
        AuthenticationError: the server does not know the user.
        PieConnectionError: a worker can't reach the server, or has lost it three times in a row.
        concurrent.futures.BrokenExecutor: the executor is broken, and can't be replaced or breaks three times in a
            row.
        OSError: a file can't be read.
    """
    given = GivenProgram(program)
    checked_options = _check_client_options(client_options)
    options = BatchOptions(
        batch=str(uuid.uuid4()),
        uri=check_uri(uri),
        username=getpass.getuser() if username is None else check_text(username, "username"),
        key=_check_key(key),
        client_options=checked_options,
        program=given.reference,
        concurrency=check_count(concurrency, "concurrency", least=1),
        retries=check_count(retries, "retries", least=0),
        return_exceptions=bool(return_exceptions),
        timeout=check_timeout(timeout),
    )
    check_count(shard_size, "shard_size", least=1)
    check_count(max_shards, "max_shards", least=1)
    provider = ExecutorProvider(executor)
    iterator = iter(inputs)
    if given.is_sent:
        with connect(options) as client:
            options = options.with_program(given.find(client._manager, "run_batch"))
    return BatchResults(ShardScheduler(options, iterator, provider, shard_size, max_shards))


def _check_key(key: Any) -> str | None:
    if key is None:
        return None
    if not isinstance(key, (str, os.PathLike)):
        raise TypeError(
            f'key must be the path of a private key, or "agent", not {type(key).__name__}: a key does not travel'
        )
    if key == "agent":
        return "agent"
    path = os.fspath(key)
    if not isinstance(path, str):
        raise TypeError("key must be str or os.PathLike[str], not bytes")
    # Absolute, since a worker of this machine may have another current folder. The workers expand "~".
    return path if path.startswith("~") else os.path.abspath(path)


def _check_client_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
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
