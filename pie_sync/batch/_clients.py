"""The clients of a worker: one for each batch and server, shared by the shards that run in its threads.

A worker is a process or a thread of an executor. Nothing here knows shards or programs.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from copy import copy
from multiprocessing import util
from typing import TYPE_CHECKING

from ..errors import PieConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..client import PieClient
    from ._servers import Endpoint

__all__ = ["SharedClient", "WorkerClients"]

#: For how many seconds at the most close() waits for the shards in threads of this process.
_CLOSE_TIMEOUT = 5.0


class SharedClient:
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


class WorkerClients:
    """The clients of this process, one for each batch and server. A worker may run several shards in threads."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, int], SharedClient] = {}
        # The last batches that have ended here: a shard that a thread has just begun must not connect any more.
        self._ended: deque[str] = deque(maxlen=100)
        self._closes_at_exit = False
        # Guards all of these. Notified when a shard uses a client no more.
        self._changed = threading.Condition()

    @contextmanager
    def using(self, batch: str, endpoint: Endpoint) -> Iterator[SharedClient]:
        """Lend the client of a server. It is made if there is none, or if it has lost its connection."""
        self.check_not_ended(batch)
        key = (batch, endpoint.number)
        with self._changed:
            idle = self._take_idle_of_others(batch)
            shared = self._clients.setdefault(key, SharedClient())
            shared.users += 1
            attempts = shared.attempts
        try:
            _close_all(idle)
            with shared.lock:
                if shared.connected is None or shared.connected.closed:
                    if shared.failure is not None and shared.attempts != attempts:
                        raise _copy_of(shared.failure)  # of the attempt that this thread has waited for
                    self._connect(shared, batch, endpoint)
            yield shared
        finally:
            with self._changed:
                shared.users -= 1
                self._changed.notify_all()

    def _take_idle_of_others(self, batch: str) -> list[SharedClient]:
        # No message tells a worker that a batch has ended, so clients are closed when the next batch begins.
        keys = [key for key, shared in self._clients.items() if key[0] != batch and not shared.users]
        return [self._clients.pop(key) for key in keys]

    def _connect(self, shared: SharedClient, batch: str, endpoint: Endpoint) -> None:
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


def _close_all(clients: list[SharedClient]) -> None:
    for shared in clients:
        if shared.connected is not None:
            shared.connected.close()
