"""An executor on a Ray cluster."""

from __future__ import annotations

import importlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable

__all__ = ["RayExecutor"]


class RayExecutor(ThreadPoolExecutor):
    """A ``concurrent.futures.Executor`` whose calls are tasks of a Ray cluster. Needs the extra ``ray``.

    A thread of this process waits for each task that is under way. Ray does not repeat the task of a worker that
    has died: its future raises ``ray.exceptions.WorkerCrashedError``, and :func:`run_batch` submits the shard
    again. Functions and arguments are pickled; the workers need pie-sync. What a function raises is raised by its
    future.

    Works in a driver and within a task or an actor. There, its tasks have ``num_cpus=0`` unless ``task_options``
    say otherwise (a shard mostly waits for its server): the waiting task may hold all processors of the cluster.

    Args:
        max_workers: how many tasks may be under way at a time. None: as many as the cluster has processors now.
        task_options: the options of each task, as for ``ray.remote``: ``num_cpus``, ``resources``,
            ``runtime_env``, and so on.

    Raises:
        ImportError: Ray is not installed.
        ValueError: ``max_workers`` is less than 1.

    Ray is initialised, by ``ray.init()``, if that was not done before.
    """

    def __init__(self, max_workers: int | None = None, **task_options: Any) -> None:
        try:
            ray: Any = importlib.import_module("ray")  # an extra, which takes a second
        except ImportError as error:
            raise ImportError("RayExecutor needs Ray: pip install 'pie-sync[ray]'") from error
        if not ray.is_initialized():
            ray.init()
        if max_workers is None:
            max_workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        super().__init__(max_workers, thread_name_prefix="pie-sync-ray")
        self._ray = ray
        if ray.get_runtime_context().get_task_id() is not None:
            task_options = {"num_cpus": 0, **task_options}
        self._task = ray.remote(**{"max_retries": 0, **task_options})(_call)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call, and return its future, which can be cancelled until its task begins."""
        return super().submit(self._run, function, args, kwargs)

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._ray.get(self._task.remote(function, args, kwargs))


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)
