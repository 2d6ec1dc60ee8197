"""A batch over many processes and machines: its inputs are cut into shards, which an executor runs.

``client.map`` uses one connection and one thread. :func:`run_batch` does the same with as many as an executor
(``concurrent.futures.Executor``) has workers::

    from concurrent.futures import ProcessPoolExecutor
    from pie_sync.batch import run_batch

    for completed in run_batch("ws://10.0.0.5:8080", "text-completion", inputs, executor=ProcessPoolExecutor):
        print(completed.message)

Several servers share a batch, and each may have options of its own::

    run_batch(["ws://10.0.0.5:8080", Server("wss://gpu.example", username="bob")], "text-completion", inputs)

The workers of a Dask or a Ray cluster need pie-sync, and an address at which they reach the Pie servers::

    with dask.distributed.Client("scheduler:8786") as cluster:
        results = run_batch(uri, "text-completion", inputs, executor=cluster.get_executor())

    with RayExecutor() as executor:
        results = run_batch(uri, "text-completion", inputs, executor=executor)
"""

from ._ray import RayExecutor
from ._run_batch import BatchResults, run_batch
from ._server_pool import ServerStatus
from ._servers import Server

__all__ = ["BatchResults", "RayExecutor", "Server", "ServerStatus", "run_batch"]
