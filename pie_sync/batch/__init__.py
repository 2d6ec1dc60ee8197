"""A batch over many processes and machines: shards of its inputs, spread over an executor.

``client.map`` keeps one connection busy, from one thread. Where that isn't enough, :func:`run_batch` does the same
with any ``concurrent.futures.Executor``::

    from concurrent.futures import ProcessPoolExecutor
    from pie_sync.batch import run_batch

    for completed in run_batch("ws://10.0.0.5:8080", "text-completion", inputs, executor=ProcessPoolExecutor):
        print(completed.message)

and with a Dask cluster, whose workers need pie-sync and a way to the Pie server::

    with dask.distributed.Client("scheduler:8786") as cluster:
        results = run_batch(uri, "text-completion", inputs, executor=cluster.get_executor())
"""

from ._run_batch import run_batch

__all__ = ["run_batch"]
