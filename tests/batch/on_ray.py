"""Runs batches on a real local Ray, kills one of its workers, and prints the results as JSON.

This is a program of its own, because Ray leaves processes and threads behind until its own end.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any

import ray

from pie_sync.batch import RayExecutor, run_batch
from pie_sync.testing import LocalServer

NUMBERS = range(200)
SLOW = 100  # the instance with this number waits for an event


def in_a_task(uri: str) -> list[int]:
    """Run a batch from a task that holds all processors."""
    with RayExecutor(2) as executor:
        return batch(uri, executor)


def batch(uri: str, executor: Any) -> list[int]:
    results = run_batch(uri, "square", ([str(n)] for n in NUMBERS), executor, shard_size=20)
    return [int(completed.message) for completed in results]


def process_id(_: int) -> int:
    return os.getpid()


def main() -> None:
    seen: dict[str, Any] = {"driver": os.getpid()}
    with LocalServer() as server, RayExecutor(2) as executor:
        seen["initialized"] = ray.is_initialized()
        waiting, go_on = threading.Event(), threading.Event()
        launches: list[str] = []

        @server.program("square")
        def square(context: Any) -> str:
            number = int(context.args[0])
            if number == SLOW and not go_on.is_set():
                launches.append(context.instance_id)
                waiting.set()
                go_on.wait(60)
            elif number == SLOW and launches and len(launches) < 2:
                launches.append(context.instance_id)
            return str(number**2)

        seen["workers"] = sorted(set(executor.map(process_id, range(8))))
        results = run_batch(server.uri, "square", ([str(n)] for n in NUMBERS), executor, shard_size=20)
        squares = [int(next(results).message)]
        waiting.wait(60)
        # Both workers: the one with the slow shard may be either.
        for worker in set(executor.map(process_id, range(1))) | set(seen["workers"]):
            try:
                os.kill(worker, signal.SIGKILL)
            except ProcessLookupError:
                pass
        go_on.set()
        seen["with a dead worker"] = squares + [int(completed.message) for completed in results]
        seen["launches"] = len(launches)
        seen["results"] = batch(server.uri, executor)
        seen["in a task"] = ray.get(
            ray.remote(num_cpus=int(ray.cluster_resources()["CPU"]))(in_a_task).remote(server.uri)
        )
        try:
            executor.submit(divmod, 1, 0).result(60)
        except ZeroDivisionError:
            seen["own error"] = "ZeroDivisionError"
        with RayExecutor() as wide:
            seen["as wide as the cluster"] = wide._max_workers == int(ray.cluster_resources()["CPU"])
        with RayExecutor(1) as narrow:
            first = narrow.submit(time.sleep, 0.2)
            seen["cancelled"] = narrow.submit(process_id, 0).cancel()
            first.result(60)
    ray.shutdown()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
