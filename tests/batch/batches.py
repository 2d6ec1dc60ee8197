"""Executors, inputs and results for tests of batches."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from functools import partial


def processes(method="fork", workers=2):
    return partial(ProcessPoolExecutor, workers, mp_context=multiprocessing.get_context(method))


def numbers(*range_):
    return ([str(number)] for number in (range(*range_) if range_ else itertools.count()))


def messages(results):
    return [completed.message for completed in results]


def squares(count):
    return [str(number**2) for number in range(count)]


def kill_the_workers():
    """Kill all workers: a single one might be idle, and then no shard would be run again."""
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGKILL)
