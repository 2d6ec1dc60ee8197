"""Runs shards in a worker: what travels to the worker and back.

A worker is a process or a thread of an executor. Nothing here knows the executor or the order of the shards.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from dataclasses import dataclass, field
from operator import length_hint
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._runs.map import map_
from ..errors import LaunchError, PieConnectionError, PieTimeoutError
from ._clients import SharedClient, WorkerClients

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._runs.map import Outcome
    from .._runs.program_reference import ProgramReference
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
_HAND_OVER_INTERVAL = 0.1


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
        first: the position of the first of them among those of the batch, from 0.
        attempt: how often the shard has been submitted. It makes each submission another task: Dask returns the
            result that it has when a task is equal to an earlier one.
        may_move: whether the shard may go to another server if this one refuses the program.
    """

    number: int
    inputs: list[Any]
    first: int = 0
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
        with _clients.using(options.batch, endpoint) as shared:
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

    def __init__(self, options: BatchOptions, shared: SharedClient, shard: Shard, result: ShardResult) -> None:
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
                first=self._shard.first,
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


_clients = WorkerClients()

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
    _clients = WorkerClients()
    _listeners.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_clients)
