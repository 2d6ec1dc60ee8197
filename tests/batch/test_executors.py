"""A batch runs on any kind of executor."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import subprocess
import sys
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from pie_sync.batch import run_batch
from pie_sync.batch._executors import ExecutorProvider
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
    assert seen["launches"] == 2, "one by the worker that died, one by another"
    squares_of_all = [number**2 for number in range(600)]
    assert seen["results"] == seen["with a dead worker"] == squares_of_all
    assert seen["in a worker"] == [squares_of_all, squares_of_all]


def test_an_executor_that_can_not_be_replaced(server):
    @server.program("deadly")
    def deadly(context):
        kill_the_workers()

    with processes()() as executor:
        with pytest.raises(BrokenExecutor, match="pass a callable"):
            list(run_batch(server.uri, "deadly", numbers(100), executor, shard_size=10))


class Recorder(ThreadPoolExecutor):
    """An executor that breaks when it is told, and notes when it is shut down."""

    made: ClassVar[list[Recorder]] = []

    def __init__(self) -> None:
        super().__init__(1)
        self.shut_down = 0
        self.made.append(self)

    def shutdown(self, *args, **kwargs):
        self.shut_down += 1
        super().shutdown(*args, **kwargs)


@pytest.fixture
def recorder():
    Recorder.made = []
    return Recorder


def test_it_is_made_when_it_is_needed_and_shut_down_once(recorder):
    provider = ExecutorProvider(recorder)
    assert recorder.made == []
    assert provider.submit(pow, 2, 3).result(10) == 8
    assert provider.submit(pow, 2, 4).result(10) == 16
    provider.close()
    provider.close()
    assert [executor.shut_down for executor in recorder.made] == [1]


def test_it_is_replaced_when_it_broke(recorder):
    provider = ExecutorProvider(recorder)
    provider.submit(pow, 2, 3).result(10)
    provider.replace(BrokenExecutor("broken"))
    assert provider.submit(pow, 2, 3).result(10) == 8
    provider.close()
    assert [executor.shut_down for executor in recorder.made] == [1, 1]


def test_the_caller_s_own_is_neither_replaced_nor_shut_down(recorder):
    with recorder() as executor:
        provider = ExecutorProvider(executor)
        with pytest.raises(BrokenExecutor, match=r"^broken \(pass a callable"):
            provider.replace(BrokenExecutor("broken"))
        provider.close()
        assert provider.submit(pow, 2, 3).result(10) == 8
        assert executor.shut_down == 0


def run_in_a_daemon(uri, told):
    try:
        next(run_batch(uri, "square", [["2"]]))
    except Exception as error:
        told.send(f"{type(error).__name__}: {error}")


def test_a_worker_that_may_have_no_processes(server):
    """Such as a worker of Dask."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=run_in_a_daemon, args=(server.uri, sender), daemon=True)
    worker.start()
    assert receiver.poll(60)
    text = receiver.recv()
    worker.join(30)
    assert "PieValueError" in text
    assert "executor=ThreadPoolExecutor" in text


def test_anything_with_a_submit_is_an_executor():
    class Calls:
        def submit(self, function, *args):
            return function(*args)

    assert ExecutorProvider(Calls()).submit(pow, 2, 3) == 8


@pytest.mark.parametrize("source", [5, "processes", [], object()])
def test_anything_else_is_refused(source):
    with pytest.raises(TypeError, match="executor must be an Executor, or a callable that makes one, not"):
        ExecutorProvider(source)
