"""``map`` over several servers: one connection to each in this process, and shards in threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..batch._run_batch import BatchResults, run_on_endpoints
from ..batch._servers import Endpoint
from ..errors import PieConnectionError
from ._connection import KeyFile, connect
from ._failures import Failure, explain, printable
from ._interruption import INTERRUPTION
from ._output import say

if TYPE_CHECKING:
    from .._runs.program_reference import Program
    from .._runs.progress import ProgressMeter
    from ..client import PieClient
    from ._settings import Settings

__all__ = ["endpoints_of", "map_on_servers", "servers_in_notes"]

#: For how many seconds no server may be there before the command gives up.
_SERVER_TIMEOUT = 60.0

#: How many shards each server has under way: while the last instances of one end, the other goes on.
_SHARDS_EACH = 2


@dataclass(frozen=True)
class _CommandEndpoint(Endpoint):
    """A server by the command's settings. Never pickled: it is for threads of this process."""

    settings: Settings | None = None
    keys: KeyFile | None = None
    lock: threading.Lock | None = None

    def connect(self) -> PieClient:
        """Return a client that is connected and authenticated; see :meth:`Endpoint.connect`."""
        assert self.settings is not None
        assert self.keys is not None
        assert self.lock is not None
        try:
            with self.lock:  # one question for a passphrase at a time
                return connect(self.settings, self.keys)
        except Failure as failure:
            if isinstance(failure.__cause__, PieConnectionError):
                raise failure.__cause__ from None
            raise


def endpoints_of(servers: Sequence[Settings]) -> list[Endpoint]:
    """Return the servers, after connecting to each once: to ask for a passphrase, and to find mistakes at once.

    Raises:
        Failure: a server refuses the user, or none can be reached.
    """
    keys, lock = KeyFile(servers[0].client), threading.Lock()
    endpoints = [
        _CommandEndpoint(
            number, one.client.uri.value, one.client.username.value, settings=one, keys=keys, lock=lock
        )
        for number, one in enumerate(servers)
    ]
    missing: list[tuple[str, PieConnectionError]] = []
    for endpoint in endpoints:
        try:
            endpoint.connect().close()
        except PieConnectionError as error:
            missing.append((endpoint.uri, error))
    if len(missing) == len(endpoints):  # else a note tells when one is first wanted
        for uri, reason in missing:
            say(f"[{printable(uri)} is not there: {explain(reason).text}]")
        raise Failure("none of the servers is there", "are they right (--uri)?") from reason
    return list(endpoints)


def map_on_servers(
    endpoints: Sequence[Endpoint],
    program: Program,
    inputs: Iterator[Any],
    *,
    concurrency: int,
    retries: int,
    timeout: float | None,
    meter: ProgressMeter,
) -> BatchResults[Any]:
    """Run a program for each input; return the generator of the outcomes, in order.

    Args:
        endpoints: the servers.
        program: a function, a name, a hash, or the path of a file.
        inputs: the arguments of each instance.
        concurrency: how many instances may run at once on each server.
        retries: how often to run a failed input again.
        timeout: the time limit of each instance, in seconds; None is without limit.
        meter: counts the outcomes.
    """
    each = min(_SHARDS_EACH, concurrency)
    return run_on_endpoints(
        endpoints,
        program,
        inputs,
        partial(ThreadPoolExecutor, each * len(endpoints)),
        shard_size=max(8, 2 * concurrency),
        max_shards=4 * each * len(endpoints),
        concurrency=concurrency // each,
        retries=retries,
        timeout=timeout,
        on_error="yield",
        server_timeout=_SERVER_TIMEOUT,
        progress=meter,
        shards_each=each,
        check=INTERRUPTION.check,
    )


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"[{printable(record.getMessage())}]")


@contextmanager
def servers_in_notes() -> Iterator[None]:
    """Show which servers are lost, and come back, in notes on stderr."""
    logger = logging.getLogger("pie_sync.batch")
    handler, level, propagates = _Notes(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates
