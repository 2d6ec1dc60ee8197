"""Runs a batch on a real local Dask cluster, kills one of its workers, and prints the results as JSON.

This is a program of its own, because Dask leaves a thread behind.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask
from distributed import Client, LocalCluster, worker_client

from pie_sync.batch import run_batch
from pie_sync.testing import LocalServer

NUMBERS = range(600)
SLOW = 300  # the instance with this number waits for an event

#: How long Dask tries to reach a worker that is gone; its default is 30 s.
CONNECT_TIMEOUT = "1s"


def main() -> None:
    seen: dict[str, Any] = {}
    dask.config.set({"distributed.comm.timeouts.connect": CONNECT_TIMEOUT})
    options = {
        "n_workers": 2,
        "threads_per_worker": 2,
        "processes": True,
        "dashboard_address": None,
        "worker_dashboard_address": None,
        "silence_logs": logging.CRITICAL,
    }
    with LocalServer() as server, LocalCluster(**options) as cluster:
        waiting = threading.Event()
        go_on = threading.Event()
        launches: list[str] = []

        @server.program("square")
        def square(context: Any) -> str:
            number = int(context.args[0])
            if number == SLOW:
                launches.append(context.instance_id)
                waiting.set()
                go_on.wait(30)
            return str(number**2)

        with Client(cluster, set_as_default=False) as dask_client:
            dask_client.wait_for_workers(2, timeout=30)
            executor = dask_client.get_executor()

            def batch() -> Any:
                return run_batch(server.uri, "square", ([str(n)] for n in NUMBERS), executor, shard_size=20)

            go_on.set()
            seen["results"] = [int(completed.message) for completed in batch()]
            seen["workers"] = len(dask_client.run(os.getpid))

            seen["in a worker"] = [
                dask_client.submit(in_a_worker, server.uri, own, pure=False).result(timeout=60)
                for own in (False, True)
            ]

            launches.clear()
            waiting.clear()
            go_on.clear()
            results = batch()
            seen["with a dead worker"] = [int(next(results).message)]
            waiting.wait(30)
            os.kill(last_one_busy(dask_client), signal.SIGKILL)
            go_on.set()
            seen["with a dead worker"] += [int(completed.message) for completed in results]
            seen["launches"] = len(launches)
    print(json.dumps(seen))


def in_a_worker(uri: str, own_threads: bool) -> list[int]:
    """Run a batch from a task: on the other workers, or in threads of this one."""
    inputs = ([str(n)] for n in NUMBERS)
    if own_threads:
        with ThreadPoolExecutor(2) as executor:
            return [int(done.message) for done in run_batch(uri, "square", inputs, executor, shard_size=20)]
    with worker_client() as client:
        results = run_batch(uri, "square", inputs, client.get_executor(), shard_size=20)
        return [int(done.message) for done in results]


def last_one_busy(dask_client: Client) -> int:
    """Wait until only one worker is busy, and return its process id."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        busy = [address for address, tasks in dask_client.processing().items() if tasks]
        if len(busy) == 1:
            return dask_client.run(os.getpid, workers=busy)[busy[0]]
        time.sleep(0.02)  # no event announces the end of a task
    raise TimeoutError("the other shards did not end")


if __name__ == "__main__":
    main()
