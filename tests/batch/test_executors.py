"""A batch runs on any kind of executor."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from pie_sync.batch import run_batch
from tests.batch.batches import kill_the_workers, messages, numbers, processes, squares

ON_DASK = Path(__file__).with_name("on_dask.py")

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # a process with threads


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes(server, method):
    with processes(method)() as executor:
        for _ in range(2):  # the executor is the caller's, and usable afterwards
            results = run_batch(server.uri, "square", numbers(500), executor, shard_size=32)
            assert messages(results) == squares(500)


def test_a_callable_that_makes_executors(server):
    assert messages(run_batch(server.uri, "square", numbers(100), processes(), shard_size=10)) == squares(100)


def test_without_an_executor(server):
    assert messages(run_batch(server.uri, "square", numbers(3))) == squares(3)


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs dask[distributed]")
def test_a_dask_cluster():
    done = subprocess.run(
        [sys.executable, "-W", "error", ON_DASK], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["workers"] == 2
    assert seen["launches"] == 3, "one in the first batch, one by the worker that died, one by another"
    assert seen["results"] == seen["with a dead worker"] == [number**2 for number in range(600)]


def test_an_executor_that_can_not_be_replaced(server):
    @server.program("deadly")
    def deadly(context):
        kill_the_workers()

    with processes()() as executor:
        with pytest.raises(BrokenExecutor, match="pass a callable"):
            list(run_batch(server.uri, "deadly", numbers(100), executor, shard_size=10))
