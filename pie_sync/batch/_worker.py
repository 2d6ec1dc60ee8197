"""Runs shards in a worker: what travels to the worker and back, and the worker's clients.

A worker is a process or a thread of an executor. Nothing here knows the executor or the order of the shards.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import util
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._runs.map import map_
from ..errors import PieConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._runs.map import Outcome
    from .._runs.program_reference import ProgramReference
    from ..client import PieClient
    from ._servers import Endpoint

__all__ = ["BatchOptions", "Shard", "ShardResult", "abandon_clients", "close_clients", "run_shard"]

#: For how many seconds at the most close_clients() waits for the shards in threads of this process.
_CLOSE_TIMEOUT = 5.0


@dataclass(frozen=True)
class BatchOptions:
    """The options that all shards of a batch have in common. Pickled for the workers, so nothing in it is secret.

    Attributes:
        batch: an id that no other batch has.
        program, concurrency, retries, on_error, timeout: see :meth:`PieClient.map`.
        is_uploaded: whether the program is one that the caller uploads, so that a server may lack it.
    """

    batch: str
    program: ProgramReference
    concurrency: int
    retries: int
    on_error: str
    timeout: float | None = None
    is_uploaded: bool = False


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


@dataclass
class ShardResult:
    """The result of a shard. Pickled for the way back.

    Attributes:
        outcomes: the outcomes of its inputs, in order, up to the first that failed for good.
        error: the error of that one, or of the connection; None if all outcomes are there.
        was_reached: whether there was a connection to the server.
        lacks_program: whether the server does not have the program, which has to be uploaded to it.
        seconds: how long its instances took.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    error: Exception | None = None
    was_reached: bool = False
    lacks_program: bool = False
    seconds: float = 0.0


def run_shard(options: BatchOptions, endpoint: Endpoint, shard: Shard) -> ShardResult:
    """Run the instances of a shard. Raises nothing, so that an exception from an executor means a lost worker."""
    result = ShardResult()
    begin = monotonic()
    try:
        with _clients.using(options, endpoint) as shared:
            result.was_reached = True
            if options.is_uploaded and not shared.has_program:
                if not shared.client.program_exists(options.program.identity):
                    result.lacks_program = True
                    return result
                shared.has_program = True
            begin = monotonic()
            for outcome in map_(
                shared.client._manager,
                options.program,
                shard.inputs,
                concurrency=options.concurrency,
                retries=options.retries,
                on_error=options.on_error,
                timeout=options.timeout,
                check=lambda: _clients.check_not_ended(options.batch),
            ):
                result.outcomes.append(outcome)
    except Exception as error:
        result.error = error
    result.seconds = monotonic() - begin
    return result


class _SharedClient:
    """A client of one server, and the number of shards that are using it.

    Attributes:
        users: how many shards use it, or wait for it.
        has_program: whether the server was seen to have the program.
    """

    def __init__(self) -> None:
        self.users = 0
        self.has_program = False
        self.connected: PieClient | None = None
        # Held while connecting: the other threads that want this server wait for it.
        self.lock = threading.Lock()

    @property
    def client(self) -> PieClient:
        """The client, once it is connected."""
        assert self.connected is not None
        return self.connected


class _Clients:
    """The clients of this process, one for each batch and server. A worker may run several shards in threads."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, int], _SharedClient] = {}
        # The last batches that have ended here: a shard that a thread has just begun must not connect any more.
        self._ended: deque[str] = deque(maxlen=100)
        self._closes_at_exit = False
        # Guards all of these. Notified when a shard uses a client no more.
        self._changed = threading.Condition()

    @contextmanager
    def using(self, options: BatchOptions, endpoint: Endpoint) -> Iterator[_SharedClient]:
        """Lend the client of a server. It is made if there is none, or if it has lost its connection."""
        self.check_not_ended(options.batch)
        key = (options.batch, endpoint.number)
        with self._changed:
            idle = self._take_idle_of_others(options.batch)
            shared = self._clients.setdefault(key, _SharedClient())
            shared.users += 1
        try:
            _close_all(idle)
            with shared.lock:
                if shared.connected is None or shared.connected.closed:
                    self._connect(shared, options.batch, endpoint)
            yield shared
        finally:
            with self._changed:
                shared.users -= 1
                self._changed.notify_all()

    def _take_idle_of_others(self, batch: str) -> list[_SharedClient]:
        # No message tells a worker that a batch has ended, so clients are closed when the next batch begins.
        keys = [key for key, shared in self._clients.items() if key[0] != batch and not shared.users]
        return [self._clients.pop(key) for key in keys]

    def _connect(self, shared: _SharedClient, batch: str, endpoint: Endpoint) -> None:
        if shared.connected is not None:
            shared.connected.close()
        shared.has_program = False  # the server may be another one by now
        shared.connected = endpoint.connect()
        # Again, after the client can be found: abandon() takes no lock, and may have looked for it before.
        try:
            self.check_not_ended(batch)
        except PieConnectionError:
            shared.connected.close()
            raise
        if not self._closes_at_exit:
            self._closes_at_exit = True
            # Processes of multiprocessing skip atexit.
            util.Finalize(None, self.close_all, exitpriority=10)

    def check_not_ended(self, batch: str) -> None:
        """Raise if a batch has ended in this process.

        Raises:
            PieConnectionError: it has.
        """
        if batch in self._ended:
            raise PieConnectionError("the batch has ended")

    def close(self, batch: str) -> None:
        """Close the clients of a batch that has ended, if this process has any.

        Shards that still use them end by themselves and terminate their instances; they have five seconds for it.
        """
        self._ended.append(batch)
        with self._changed:
            mine = [self._clients.pop(key) for key in list(self._clients) if key[0] == batch]
            self._changed.wait_for(lambda: not any(shared.users for shared in mine), _CLOSE_TIMEOUT)
        _close_all(mine)

    def abandon(self, batch: str) -> None:
        """End the connections of a batch's clients in this process. Safe in a finalizer: takes no lock."""
        self._ended.append(batch)
        for key, shared in self._clients.copy().items():
            if key[0] == batch and shared.connected is not None:
                shared.connected._manager._abandon()

    def close_all(self) -> None:
        """Close every client."""
        with self._changed:
            clients = list(self._clients.values())
            self._clients.clear()
        _close_all(clients)


def _close_all(clients: list[_SharedClient]) -> None:
    for shared in clients:
        if shared.connected is not None:
            shared.connected.close()


_clients = _Clients()


def close_clients(batch: str) -> None:
    """Close the clients that this process has of a batch. Blocks for up to 5 seconds, while shards use them."""
    _clients.close(batch)


def abandon_clients(batch: str) -> None:
    """End the connections that this process has for a batch, without closing them properly. Takes no lock."""
    _clients.abandon(batch)


def _forget_clients() -> None:
    """In a forked child, leave the clients to the parent. Their lock may be held by a thread that is not here."""
    global _clients  # noqa: PLW0603
    _clients = _Clients()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_clients)
