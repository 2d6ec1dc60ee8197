"""Decides which server gets the next shard, and remembers which servers are alive and how fast each is."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from .._runs.retries import growing_pause
from ..errors import PieConnectionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._servers import Endpoint

__all__ = ["PooledServer", "ServerPool", "ServerStatus"]

logger = logging.getLogger("pie_sync.batch")

#: The first pause before a server that was lost is tried again, in seconds. It doubles each time, up to 30 s.
_FIRST_PAUSE = 0.5

#: How much the latest shard counts in the speed of a server, against all earlier ones.
_NEWEST = 0.4


@dataclass(frozen=True)
class ServerStatus:
    """What a batch knows of one of its servers.

    Attributes:
        uri: its address.
        done: how many inputs it has run, those that failed included.
        running: how many inputs it was given that have no outcome yet.
        per_second: how many inputs of one shard it runs in a second, newer shards counting more; None before it
            has run any.
        error: why it is set aside at the moment: how it can't be reached, or what it refuses; None if it is not.
    """

    uri: str
    done: int
    running: int
    per_second: float | None
    error: str | None


class PooledServer:
    """One server, and how it does. Only its pool changes it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.shards = 0
        self.inputs = 0
        self.done = 0
        self.speed: float | None = None
        # While it is set aside: why, whether that may pass, and whether it is there and only refuses the program.
        self.error: Exception | None = None
        self.is_lasting = False
        self.refuses_program = False
        # How often in a row it was set aside, since when, and when it is tried again.
        self.losses = 0
        self.down_since = 0.0
        self.retry_at = 0.0
        # Counts the losses of the whole batch. A shard that was started before the last one says nothing new.
        self.period = 0
        # Whether a shard is under way that was started after the last loss, to try the server.
        self.is_tried = False

    def status(self) -> ServerStatus:
        """Return what is known of it."""
        error = None if self.error is None else str(self.error)
        return ServerStatus(self.endpoint.uri, self.done, self.inputs, self.speed, error)


class ServerPool:
    """The servers of one batch. Used by one thread at a time.

    A server that can't be reached, loses its connection, refuses the user or does not launch the program is *set
    aside*: its shards go to the others, and it is tried again with one shard, after growing pauses.

    Args:
        endpoints: the servers.
        patience: for how many seconds none of them may be there before the batch fails; None is for ever.
        shards_each: how many shards one server may have under way; None for any number.

    Attributes:
        servers: all of them.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], patience: float | None, shards_each: int | None = None
    ) -> None:
        self.servers = [PooledServer(endpoint) for endpoint in endpoints]
        self._patience = patience
        self._shards_each = shards_each

    def most_under_way(self, workers: int | None) -> int | None:
        """Return how many shards may be under way, for so many workers; None for any number.

        With several servers, a shard is given to one as late as possible: what waits for a worker would have to
        wait for a server that has become slow. So there is no more than one in reserve for each server.
        """
        return None if workers is None or len(self.servers) == 1 else workers + len(self.servers)

    @property
    def may_move(self) -> bool:
        """Whether a shard whose server refuses the program should go to another one.

        Not if there is no other server, or if none does better: then the refusals are the outcomes.
        """
        return len(self.servers) > 1 and not self._all_refuse()

    def _all_refuse(self) -> bool:
        return all(server.losses and server.is_lasting for server in self.servers) and any(
            server.refuses_program for server in self.servers
        )

    def choose(self) -> PooledServer | None:
        """Return the server for the next shard: that with the fewest under way, relative to its speed.

        None: each has as many as it may have, or is not to be tried yet. A server that was set aside is tried with
        one shard.
        """
        now = monotonic()
        free = [server for server in self.servers if self._is_free(server, now)]
        known = [server.speed for server in self.servers if server.speed is not None]
        usual = sum(known) / len(known) if known else 1.0
        return min(free, key=lambda server: (server.shards + 1) / (server.speed or usual), default=None)

    def _is_free(self, server: PooledServer, now: float) -> bool:
        if server.losses and not (server.refuses_program and self._all_refuse()):
            return not server.is_tried and now >= server.retry_at
        return self._shards_each is None or server.shards < self._shards_each

    def started(self, server: PooledServer, inputs: int) -> int:
        """Note that a server was given a shard. Return the period in which that was, for the methods below."""
        server.shards += 1
        server.inputs += inputs
        server.is_tried = server.losses > 0
        return server.period

    def has_outcomes(self, server: PooledServer, count: int) -> None:
        """Note that so many inputs of a shard that is under way have an outcome."""
        server.inputs -= count
        server.done += count

    def ended(self, server: PooledServer, inputs: int, period: int) -> None:
        """Note that a shard is not under way any more, of which so many inputs have no outcome."""
        server.shards -= 1
        server.inputs -= inputs
        if period == server.period:
            server.is_tried = False

    def reached(self, server: PooledServer, launched: int, seconds: float, period: int) -> None:
        """Note that a server has run a shard, in which it has launched so many instances, in so many seconds."""
        if server.losses and period == server.period and (launched or not server.refuses_program):
            logger.info("%s is there again", server.endpoint.uri)
            server.losses, server.error = 0, None
            server.is_lasting = server.refuses_program = False
        if launched and seconds > 0:
            speed = launched / seconds
            old = server.speed
            server.speed = speed if old is None else (1 - _NEWEST) * old + _NEWEST * speed

    def lost(
        self,
        server: PooledServer,
        error: Exception,
        period: int,
        *,
        is_lasting: bool = False,
        refuses_program: bool = False,
    ) -> None:
        """Set a server aside.

        Args:
            server: which.
            error: why.
            period: when the shard was started that has found out.
            is_lasting: whether the next attempt would end in the same way.
            refuses_program: whether the server is there, and does not launch the program.

        Raises:
            Exception: ``error`` or that of another server, see :meth:`check`.
        """
        if period != server.period:
            return  # one of many shards that were lost at the same time
        now = monotonic()
        if not server.losses:
            server.down_since = now
        server.losses += 1
        server.period += 1
        server.is_tried = False
        server.error, server.is_lasting, server.refuses_program = error, is_lasting, refuses_program
        pause = growing_pause(server.losses, _FIRST_PAUSE)
        server.retry_at = now + pause
        logger.warning(
            "%s %s, its shards go to the other servers; next attempt in %.1f s: %s",
            server.endpoint.uri,
            "can't be used" if is_lasting else "is not there",
            pause,
            error,
        )
        self.check()

    def check(self) -> None:
        """Raise the error that ends the batch, if all of its servers are set aside for good or for too long.

        Raises:
            PieConnectionError: none has been there for longer than the batch is patient.
            Exception: of the latest server, if the errors of all are lasting. (If one only refuses the program,
                the refusals become the outcomes instead.)
        """
        if any(not server.losses for server in self.servers) or self._all_refuse():
            return
        latest = max(self.servers, key=lambda server: server.down_since)
        assert latest.error is not None
        if all(server.is_lasting for server in self.servers):
            raise latest.error
        if self._patience is not None and monotonic() - latest.down_since > self._patience:
            raise PieConnectionError(
                f"no server was there for {self._patience:g} s; the last was {latest.endpoint.uri}: {latest.error}"
            ) from latest.error

    def unreachable(self) -> tuple[str, ...]:
        """Return the addresses of the servers that are set aside."""
        return tuple(server.endpoint.uri for server in self.servers if server.losses)

    def status(self) -> tuple[ServerStatus, ...]:
        """Return what is known of each server, in the order in which they were given."""
        return tuple(server.status() for server in self.servers)
