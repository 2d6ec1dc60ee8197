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
        error: why it can't be reached at the moment; None if it can, as far as is known.
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
        self.error: PieConnectionError | None = None
        # How many shards in a row it has lost, since when, and when it is tried again.
        self.losses = 0
        self.down_since = 0.0
        self.retry_at = 0.0

    def status(self) -> ServerStatus:
        """Return what is known of it."""
        error = None if self.error is None else str(self.error)
        return ServerStatus(self.endpoint.uri, self.done, self.inputs, self.speed, error)


class ServerPool:
    """The servers of one batch. Used by one thread at a time.

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
        self._ever_reached = False

    def most_under_way(self, workers: int | None) -> int | None:
        """Return how many shards may be under way, for so many workers; None for any number.

        With several servers, a shard is given to one as late as possible: what waits for a worker would have to
        wait for a server that has become slow. So there is no more than one in reserve for each server.
        """
        return None if workers is None or len(self.servers) == 1 else workers + len(self.servers)

    def choose(self) -> PooledServer | None:
        """Return the server for the next shard: that with the fewest under way, relative to its speed.

        None: each has as many as it may have, or is not to be tried yet. A server that was lost is tried with one
        shard.
        """
        now = monotonic()
        free = [server for server in self.servers if self._is_free(server, now)]
        known = [server.speed for server in self.servers if server.speed is not None]
        usual = sum(known) / len(known) if known else 1.0
        return min(free, key=lambda server: (server.shards + 1) / (server.speed or usual), default=None)

    def _is_free(self, server: PooledServer, now: float) -> bool:
        if server.losses:
            return not server.shards and now >= server.retry_at
        return self._shards_each is None or server.shards < self._shards_each

    def started(self, server: PooledServer, inputs: int) -> None:
        """Note that a server was given a shard."""
        server.shards += 1
        server.inputs += inputs

    def ended(self, server: PooledServer, inputs: int, done: int) -> None:
        """Note that a shard is not under way any more. ``done``: how many of its inputs have an outcome."""
        server.shards -= 1
        server.inputs -= inputs
        server.done += done

    def reached(self, server: PooledServer, done: int, seconds: float) -> None:
        """Note that a server has run a shard, or the part of it that has ``done`` inputs, in so many seconds."""
        self._ever_reached = True
        if server.losses:
            logger.info("%s is there again", server.endpoint.uri)
            server.losses, server.error = 0, None
        if done and seconds > 0:
            speed = done / seconds
            old = server.speed
            server.speed = speed if old is None else (1 - _NEWEST) * old + _NEWEST * speed

    def lost(self, server: PooledServer, error: PieConnectionError, *, was_there: bool) -> None:
        """Note that a server can't be reached, or has lost its connection.

        Args:
            server: which.
            error: how that showed.
            was_there: whether it was reached, and the connection was lost later.

        Raises:
            PieConnectionError: none of the servers is there, and has been for longer than the batch is patient; or
                none can be reached at the beginning.
        """
        now = monotonic()
        self._ever_reached |= was_there
        if server.losses and now < server.retry_at:
            return  # one of many shards that were lost at the same time
        if not server.losses:
            server.down_since = now
        server.losses += 1
        server.error = error
        pause = growing_pause(server.losses, _FIRST_PAUSE)
        server.retry_at = now + pause
        logger.warning(
            "%s is not there, its shards go to the other servers; next attempt in %.1f s: %s",
            server.endpoint.uri,
            pause,
            error,
        )
        self.check()

    def check(self) -> None:
        """Raise the error that ends the batch, if none of its servers was there for too long.

        Raises:
            PieConnectionError: see :meth:`lost`.
        """
        if any(not server.losses for server in self.servers):
            return
        latest = max(self.servers, key=lambda server: server.down_since)
        assert latest.error is not None
        if not self._ever_reached:
            raise latest.error
        if self._patience is not None and monotonic() - latest.down_since > self._patience:
            raise PieConnectionError(
                f"no server was there for {self._patience:g} s; the last was {latest.endpoint.uri}: {latest.error}"
            ) from latest.error

    def wait(self) -> float | None:
        """Return in how many seconds a server that was lost may be tried again; None if there is none to try."""
        lost = [server.retry_at for server in self.servers if server.losses and not server.shards]
        return max(0.0, min(lost) - monotonic()) if lost else None

    def unreachable(self) -> tuple[str, ...]:
        """Return the addresses of the servers that are not there."""
        return tuple(server.endpoint.uri for server in self.servers if server.losses)

    def status(self) -> tuple[ServerStatus, ...]:
        """Return what is known of each server, in the order in which they were given."""
        return tuple(server.status() for server in self.servers)
