"""Runs shards in a worker: what travels to the worker and back, and the worker's clients.

A worker is a process or a thread of an executor. Nothing here knows the executor or the order of the shards.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import util
from typing import TYPE_CHECKING, Any

from .._runs.map import map_
from ..client import PieClient
from ..errors import PieConnectionError
from ..keys import ParsedPrivateKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._runs.map import Outcome
    from .._runs.program_reference import ProgramReference

__all__ = ["BatchOptions", "Shard", "ShardResult", "abandon_clients", "close_clients", "connect", "run_shard"]


@dataclass(frozen=True)
class BatchOptions:
    """The options that all shards of a batch have in common. Pickled for the workers, so nothing in it is secret.

    Attributes:
        batch: an id that no other batch has.
        uri: the address of the server.
        username: the name to authenticate with.
        key: the path of the private key, or ``"agent"``, or None for none.
        client_options: more arguments of :class:`PieClient`.
        program, concurrency, retries, return_exceptions, timeout: see :meth:`PieClient.map`.
    """

    batch: str
    uri: str
    username: str
    key: str | None
    client_options: dict[str, Any]
    program: ProgramReference
    concurrency: int
    retries: int
    return_exceptions: bool
    timeout: float | None = None

    def with_program(self, program: ProgramReference) -> BatchOptions:
        """Return the same options for another program."""
        return dataclasses.replace(self, program=program)


@dataclass(frozen=True)
class Shard:
    """Consecutive inputs of a batch, which one worker runs. Pickled for the workers.

    Attributes:
        number: the position of the shard in its batch, from 0.
        inputs: the arguments of each instance.
        attempt: how often the shard has been submitted. It makes each submission another task: Dask returns the
            result that it has when a task is equal to an earlier one.
    """

    number: int
    inputs: list[Any]
    attempt: int = 0

    def next_attempt(self) -> Shard:
        """Return the same shard for one more submission."""
        return dataclasses.replace(self, attempt=self.attempt + 1)


@dataclass
class ShardResult:
    """The result of a shard. Pickled for the way back.

    Attributes:
        outcomes: the outcomes of its inputs, in order, up to the first that failed for good.
        error: the error of that one, or of the connection; None if all outcomes are there.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    error: Exception | None = None


def run_shard(options: BatchOptions, shard: Shard) -> ShardResult:
    """Run the instances of a shard. Raises nothing, so that an exception from an executor means a lost worker."""
    result = ShardResult()
    try:
        with _clients.using(options) as client:
            for outcome in map_(
                client._manager,
                options.program,
                shard.inputs,
                concurrency=options.concurrency,
                retries=options.retries,
                return_exceptions=options.return_exceptions,
                timeout=options.timeout,
            ):
                result.outcomes.append(outcome)
    except Exception as error:
        result.error = error
    return result


def connect(options: BatchOptions) -> PieClient:
    """Return a client that is connected and authenticated."""
    key = None
    if options.key == "agent":
        key = ParsedPrivateKey.from_agent()
    elif options.key is not None:
        key = ParsedPrivateKey.from_file(options.key)
    client = PieClient(options.uri, **options.client_options)
    try:
        client.connect()
        client.authenticate(options.username, key)
    except BaseException:
        client.close()
        raise
    return client


class _SharedClient:
    """A client, and the number of shards that are using it."""

    def __init__(self, client: PieClient) -> None:
        self.client = client
        self.users = 0


class _Clients:
    """The clients of this process, one for each batch. A worker may run several shards at once, in threads."""

    def __init__(self) -> None:
        self._clients: dict[str, _SharedClient] = {}
        # The last batches that have ended here: a shard that a thread has just begun must not connect any more.
        self._ended: deque[str] = deque(maxlen=100)
        self._closes_at_exit = False
        # Guards all of these. Held while connecting: the threads that wait for it usually need the same client.
        self._lock = threading.Lock()

    @contextmanager
    def using(self, options: BatchOptions) -> Iterator[PieClient]:
        """Lend the client of a batch. It is made if there is none, or if it has lost its connection."""
        with self._lock:
            shared = self._clients.get(options.batch)
            if shared is None or shared.client.closed:
                shared = self._connect(options)
            shared.users += 1
        try:
            yield shared.client
        finally:
            with self._lock:
                shared.users -= 1

    def _connect(self, options: BatchOptions) -> _SharedClient:
        self._check_not_ended(options.batch)
        # No message tells a worker that a batch has ended, so clients are closed when the next batch begins.
        for batch, shared in list(self._clients.items()):
            if batch == options.batch or not shared.users:
                self._clients.pop(batch).client.close()
        shared = self._clients[options.batch] = _SharedClient(connect(options))
        # Again, after the client can be found: abandon() takes no lock, and may have looked for it before.
        try:
            self._check_not_ended(options.batch)
        except PieConnectionError:
            self._clients.pop(options.batch).client.close()
            raise
        if not self._closes_at_exit:
            self._closes_at_exit = True
            # Processes of multiprocessing skip atexit.
            util.Finalize(None, self.close_all, exitpriority=10)
        return shared

    def _check_not_ended(self, batch: str) -> None:
        if batch in self._ended:
            raise PieConnectionError("the batch has ended")

    def close(self, batch: str) -> None:
        """Close the client of a batch that has ended, if this process has it, also while shards use it."""
        self._ended.append(batch)
        with self._lock:
            shared = self._clients.pop(batch, None)
        if shared is not None:
            shared.client.close()

    def abandon(self, batch: str) -> None:
        """End the connection of a batch's client, if this process has it. Safe in a finalizer: takes no lock."""
        self._ended.append(batch)
        shared = self._clients.get(batch)
        if shared is not None:
            shared.client._manager._abandon()

    def close_all(self) -> None:
        """Close every client."""
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
        for shared in clients:
            shared.client.close()


_clients = _Clients()


def close_clients(batch: str) -> None:
    """Close the client that this process has of a batch. Blocks while a thread of the batch connects."""
    _clients.close(batch)


def abandon_clients(batch: str) -> None:
    """End the connection that this process has for a batch, without closing it properly. Takes no lock."""
    _clients.abandon(batch)


def _forget_clients() -> None:
    """In a forked child, leave the clients to the parent. Their lock may be held by a thread that is not here."""
    global _clients  # noqa: PLW0603
    _clients = _Clients()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_clients)
