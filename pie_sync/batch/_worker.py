"""What runs in the workers of a batch: shards, over one client for each process and batch."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import util
from typing import TYPE_CHECKING, Any

from ..client import PieClient
from ..errors import PieConnectionError
from ..keys import ParsedPrivateKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._runs.map import Outcome

__all__ = ["Plan", "Report", "close_clients", "connect", "run_shard"]


@dataclass(frozen=True)
class Plan:
    """What a worker has to know. It is pickled: nothing in it is secret.

    Attributes:
        batch: tells batches apart.
        uri: the server.
        username: as whom to authenticate.
        key: the path of the private key, or ``"agent"``.
        client_options: more arguments of :class:`PieClient`.
        program, concurrency, retries, return_exceptions: see :meth:`PieClient.map`.
    """

    batch: str
    uri: str
    username: str
    key: str | None
    client_options: dict[str, Any]
    program: str
    concurrency: int
    retries: int
    return_exceptions: bool

    def with_program(self, program: str) -> Plan:
        """Return the same plan for another program."""
        return dataclasses.replace(self, program=program)


@dataclass
class Report:
    """What became of a shard.

    Attributes:
        outcomes: of its inputs, in order, up to the first that failed for good.
        error: why there are no more.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    error: Exception | None = None


def run_shard(plan: Plan, inputs: list[Any], number: int, attempt: int) -> Report:
    """Run the instances of a shard, and tell what became of them. Raises nothing: what is raised is the worker's.

    ``number`` and ``attempt`` tell this call from all others, for executors that compare.
    """
    report = Report()
    try:
        with _clients.using(plan) as client:
            for outcome in client.map(
                plan.program,
                inputs,
                concurrency=plan.concurrency,
                retries=plan.retries,
                return_exceptions=plan.return_exceptions,
            ):
                report.outcomes.append(outcome)
    except Exception as error:
        report.error = error
    return report


def connect(plan: Plan) -> PieClient:
    """Return a client that is connected and authenticated."""
    key = None
    if plan.key == "agent":
        key = ParsedPrivateKey.from_agent()
    elif plan.key is not None:
        key = ParsedPrivateKey.from_file(plan.key)
    client = PieClient(plan.uri, **plan.client_options)
    try:
        client.connect()
        client.authenticate(plan.username, key)
    except BaseException:
        client.close()
        raise
    return client


class _Entry:
    """A client, and how many shards are using it."""

    def __init__(self, client: PieClient) -> None:
        self.client = client
        self.users = 0


class _Clients:
    """The clients of this process, one for each batch. A worker may run several shards at once, in threads."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        # The last batches that have ended: a shard that a thread has just begun must not connect any more.
        self._over: deque[str] = deque(maxlen=100)
        self._closes_at_exit = False
        # Guards all of these. Held while connecting: whoever waits for it needs that very client, as a rule.
        self._lock = threading.Lock()

    @contextmanager
    def using(self, plan: Plan) -> Iterator[PieClient]:
        """Lend the client of a batch, which is made if there's none, or if it has lost its connection."""
        with self._lock:
            entry = self._entries.get(plan.batch)
            if entry is None or entry.client.closed:
                entry = self._replace(plan)
            entry.users += 1
        try:
            yield entry.client
        finally:
            with self._lock:
                entry.users -= 1

    def _replace(self, plan: Plan) -> _Entry:
        if plan.batch in self._over:
            raise PieConnectionError("the batch is over")
        # A worker does not learn that a batch is over, but it sees the next one begin.
        for batch, entry in list(self._entries.items()):
            if batch == plan.batch or not entry.users:
                self._entries.pop(batch).client.close()
        entry = self._entries[plan.batch] = _Entry(connect(plan))
        if not self._closes_at_exit:
            self._closes_at_exit = True
            # Not atexit, which processes of multiprocessing leave out.
            util.Finalize(None, self.close_all, exitpriority=10)
        return entry

    def close(self, batch: str) -> None:
        """Close the client of a batch that is over, if it's in this process, whoever uses it."""
        with self._lock:
            self._over.append(batch)
            entry = self._entries.pop(batch, None)
        if entry is not None:
            entry.client.close()

    def close_all(self) -> None:
        """Close every client."""
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
        for entry in entries:
            entry.client.close()


_clients = _Clients()


def close_clients(batch: str) -> None:
    """Close what this process has of a batch."""
    _clients.close(batch)


def _forget_parent() -> None:
    """In a forked child: its parent's clients aren't its own, and their lock may be held for ever."""
    global _clients  # noqa: PLW0603
    _clients = _Clients()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
