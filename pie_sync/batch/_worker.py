"""Runs shards in a worker: what travels to the worker and back, and the worker's clients.

A worker is a process or a thread of an executor. Nothing here knows the executor or the order of the shards.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading
from collections import deque
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from multiprocessing import util
from operator import length_hint
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._runs.map import map_
from ..errors import LaunchError, PieConnectionError, PieTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._runs.map import Outcome
    from .._runs.program_reference import ProgramReference
    from ..client import PieClient
    from ._servers import Endpoint

__all__ = [
    "BatchOptions",
    "Shard",
    "ShardOutcomes",
    "ShardResult",
    "abandon_clients",
    "close_clients",
    "is_lasting",
    "listen",
    "run_shard",
]

#: After so many seconds a shard in another process launches no more, and comes back with what it has; but not
#: before so many times the duration of its longest instance. While a shard waits for its last instances, its
#: server has less to do, which would happen too often with long ones.
_GIVE_BACK = 5.0
_GIVE_BACK_INSTANCES = 2.0

#: A shard in a thread of the batch's own process hands over its outcomes at most so often, in seconds.
_HAND_OVER_INTERVAL = 0.02

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
        may_move: whether the shard may go to another server if this one refuses the program.
    """

    number: int
    inputs: list[Any]
    attempt: int = 0
    may_move: bool = False


@dataclass(frozen=True)
class ShardOutcomes:
    """Outcomes of a shard that goes on, handed over within one process.

    Attributes:
        number, attempt: see :class:`Shard`.
        outcomes: of the next inputs, in order.
    """

    number: int
    attempt: int
    outcomes: list[Outcome]


@dataclass
class ShardResult:
    """The result of a shard. Pickled for the way back.

    Attributes:
        outcomes: the outcomes of its first inputs, in order, that were not handed over before. What has no outcome
            was not begun, or has lost its connection.
        error: the error of the input behind them, which ends the batch; or what is wrong with the server.
        is_of_server: whether ``error`` concerns the server rather than an input.
        is_lasting: whether that error of the server would be the same at the next attempt.
        refuses_program: whether that error is that the server does not launch the program.
        lacks_program: whether the server does not have the program, which has to be uploaded to it.
        launched: how many outcomes are of instances that were launched.
        seconds: how long its instances took.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    error: Exception | None = None
    is_of_server: bool = False
    is_lasting: bool = False
    refuses_program: bool = False
    lacks_program: bool = False
    launched: int = 0
    seconds: float = 0.0


def run_shard(options: BatchOptions, endpoint: Endpoint, shard: Shard) -> ShardResult:
    """Run the instances of a shard. Raises nothing, so that an exception from an executor means a lost worker."""
    result = ShardResult()
    try:
        with _clients.using(options, endpoint) as shared:
            if options.is_uploaded and not shared.has_program:
                if not shared.client.program_exists(options.program.identity):
                    result.lacks_program = True
                    return result
                shared.has_program = True
            _ShardRun(options, shared, shard, result).run()
    except Exception as error:  # of connecting, and of the question for the program
        _of_server(result, error)
    return result


def _of_server(result: ShardResult, error: Exception) -> None:
    result.error, result.is_of_server, result.is_lasting = error, True, is_lasting(error)


def is_lasting(error: Exception) -> bool:
    """Return whether a server that can't be used because of ``error`` will be no better in a while.

    A server that starts up refuses connections, and a busy one is silent. But a key stays wrong, and a name that
    does not exist, a certificate that is not trusted and a path that leads elsewhere stay what they are.
    """
    if not isinstance(error, (PieConnectionError, PieTimeoutError)):
        return True
    cause = error.__cause__
    if isinstance(cause, socket.gaierror):
        return cause.errno != socket.EAI_AGAIN
    status = getattr(cause, "status_code", 0)
    return isinstance(cause, ssl.SSLCertVerificationError) or 300 <= status < 400 or status in (401, 403)


class _ShardRun:
    """One shard at work. Used by one thread."""

    def __init__(self, options: BatchOptions, shared: _SharedClient, shard: Shard, result: ShardResult) -> None:
        self._options = options
        self._shared = shared
        self._shard = shard
        self._result = result
        # A copy, which is cut off when the shard is to end: its iterator then ends as well.
        self._inputs = list(shard.inputs)
        self._iterator = iter(self._inputs)
        self._hand_over = _listeners.get(options.batch)
        self._begin = monotonic()
        self._handed_over = 0.0
        self._longest = 0.0

    def run(self) -> None:
        """Run the instances, and fill the result."""
        options, result = self._options, self._result
        try:
            for outcome in map_(
                self._shared.client._manager,
                options.program,
                self._iterator,
                concurrency=options.concurrency,
                retries=options.retries,
                on_error=options.on_error,
                timeout=options.timeout,
                check=self._check,
            ):
                self._take(outcome)
        except Exception as error:
            if isinstance(error, PieConnectionError):
                _of_server(result, error)
            elif self._is_refusal(error):
                _of_server(result, error)
                result.refuses_program = True
            else:
                result.error = error
        result.seconds = monotonic() - self._begin

    def _is_refusal(self, error: object) -> bool:
        # Of a client that has launched something, the error concerns its input.
        return self._shard.may_move and not self._shared.has_launched and isinstance(error, LaunchError)

    def _take(self, outcome: Outcome) -> None:
        if isinstance(outcome, LaunchError):
            if self._is_refusal(outcome):
                raise outcome
        else:
            self._shared.has_launched = True
            self._result.launched += 1
        self._longest = max(self._longest, getattr(outcome, "elapsed", None) or 0.0)
        self._result.outcomes.append(outcome)
        self._look()

    def _check(self) -> None:
        _clients.check_not_ended(self._options.batch)
        self._look()

    def _look(self) -> None:
        """Hand over the outcomes, or end the shard, if it is time for it."""
        now = monotonic()
        if self._hand_over is None:
            if now - self._begin >= max(_GIVE_BACK, _GIVE_BACK_INSTANCES * self._longest):
                del self._inputs[len(self._inputs) - length_hint(self._iterator) :]
        elif self._result.outcomes and now - self._handed_over >= _HAND_OVER_INTERVAL:
            self._handed_over = now
            outcomes, self._result.outcomes = self._result.outcomes, []
            self._hand_over(ShardOutcomes(self._shard.number, self._shard.attempt, outcomes))


class _SharedClient:
    """A client of one server, and the number of shards that are using it.

    Attributes:
        users: how many shards use it, or wait for it.
        has_program: whether the server was seen to have the program.
        has_launched: whether the server has launched an instance of the program.
    """

    def __init__(self) -> None:
        self.users = 0
        self.has_program = False
        self.has_launched = False
        self.connected: PieClient | None = None
        # Held while connecting: the other threads that want this server wait for it.
        self.lock = threading.Lock()
        # How many attempts to connect have ended, and how the last one failed.
        self.attempts = 0
        self.failure: Exception | None = None

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
            attempts = shared.attempts
        try:
            _close_all(idle)
            with shared.lock:
                if shared.connected is None or shared.connected.closed:
                    if shared.failure is not None and shared.attempts != attempts:
                        raise _copy_of(shared.failure)  # of the attempt that this thread has waited for
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
        shared.has_program = shared.has_launched = False  # the server may be another one by now
        shared.failure = None
        try:
            shared.connected = endpoint.connect()
        except Exception as error:
            shared.failure = error
            raise
        finally:
            shared.attempts += 1
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


def _copy_of(error: Exception) -> Exception:
    """Return a new exception for one of many threads: a raised one collects the traceback of each."""
    copied = copy(error)
    copied.__cause__ = error.__cause__
    return copied


def _close_all(clients: list[_SharedClient]) -> None:
    for shared in clients:
        if shared.connected is not None:
            shared.connected.close()


_clients = _Clients()


#: Where the shards of a batch hand over their outcomes, in the process of the batch. The key is the batch's id.
_listeners: dict[str, Callable[[ShardOutcomes], None]] = {}


def listen(batch: str, hand_over: Callable[[ShardOutcomes], None]) -> None:
    """Let shards that run in threads of this process hand over their outcomes at once, until the batch ends."""
    _listeners[batch] = hand_over


def close_clients(batch: str) -> None:
    """Close the clients that this process has of a batch. Blocks for up to 5 seconds, while shards use them."""
    _listeners.pop(batch, None)
    _clients.close(batch)


def abandon_clients(batch: str) -> None:
    """End the connections that this process has for a batch, without closing them properly. Takes no lock."""
    _listeners.pop(batch, None)
    _clients.abandon(batch)


def _forget_clients() -> None:
    """In a forked child, leave the clients to the parent. Their lock may be held by a thread that is not here."""
    global _clients  # noqa: PLW0603
    _clients = _Clients()
    _listeners.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_clients)
