"""The executor of a batch, and another one when it breaks. Nothing here knows shards."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing import current_process, get_context
from typing import Any, Callable, Union

from ..errors import PieValueError

__all__ = ["ExecutorProvider", "ExecutorSource"]

#: An executor, or a callable that makes one, or None for the default.
ExecutorSource = Union[Executor, Callable[[], Executor], None]


class ExecutorProvider:
    """Submits calls to an executor, which it makes when it is first needed, and again after it broke.

    An executor that the caller gave is used as it is: never shut down, never replaced. Not thread-safe.

    Args:
        source: an executor, anything with a ``submit`` like an executor's, a callable without arguments that makes
            one, or None for a ``ProcessPoolExecutor`` that spawns a process for each processor.

    Raises:
        TypeError: ``source`` is none of these.
    """

    def __init__(self, source: ExecutorSource) -> None:
        self._make: Callable[[], Executor] | None = None
        self._executor: Executor | None = None
        if source is None:
            self._make = _spawning_executor
        elif callable(getattr(source, "submit", None)) and not isinstance(source, type):
            self._executor = source  # type: ignore[assignment]  # Executor's other methods are not needed
        elif callable(source):
            self._make = source
        else:
            raise TypeError(
                f"executor must be an Executor, or a callable that makes one, not {type(source).__name__}"
            )

    def submit(self, *call: Any) -> Future[Any]:
        """Submit a function and its arguments. Raises ``BrokenExecutor`` if the executor is broken."""
        if self._executor is None:
            assert self._make is not None
            self._executor = self._make()
        return self._executor.submit(*call)

    @property
    def workers(self) -> int | None:
        """How many calls run at a time; None where that is not known."""
        # The executors of the standard library have no public name for it.
        workers = getattr(self._executor, "_max_workers", None)
        return workers if isinstance(workers, int) else None

    def replace(self, broken: BrokenExecutor) -> None:
        """Let the next call go to a new executor.

        Raises:
            BrokenExecutor: the executor was given by the caller, so there is no way to make another one.
        """
        if self._make is None:
            raise type(broken)(
                f"{broken} (pass a callable that makes executors, so that the batch can go on with a new one)"
            ) from broken
        self.close()

    def close(self) -> None:
        """Shut down the executor if it was made here. Blocks until the calls that it is running have ended."""
        if self._make is not None and self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def abandon(self) -> None:
        """Let go of the executor, whose workers end when they have nothing to do. Safe in a finalizer: no lock."""
        self._executor = None


def _spawning_executor() -> Executor:
    if current_process().daemon:  # which multiprocessing lets have no children
        raise PieValueError(
            "executor=None starts processes, and this process may have none, being a worker of another one",
            "executor=ThreadPoolExecutor, or in a Dask task worker_client().get_executor()",
        )
    # "fork", the default on some systems, harms programs with threads.
    return ProcessPoolExecutor(mp_context=get_context("spawn"))
