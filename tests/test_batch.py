"""A batch spread over processes, on any kind of executor."""

import importlib.util
import itertools
import json
import multiprocessing
import os
import pickle
import signal
import ssl
import subprocess
import sys
import threading
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from pie_sync import (
    AuthenticationError,
    InstanceFailed,
    InvalidKeyError,
    ParsedPrivateKey,
    PieClient,
    PieConnectionError,
)
from pie_sync.batch import run_batch
from pie_sync.testing import LocalServer
from tests.programs import HELLO

ON_DASK = Path(__file__).with_name("batch_on_dask.py")

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # a process with threads


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture(autouse=True)
def programs(server):
    @server.program("square")
    def square(context):
        return str(int(context.args[0]) ** 2)

    @server.program("reciprocal")
    def reciprocal(context):
        return str(1 / int(context.args[0]))


def processes(method="fork", workers=2):
    return partial(ProcessPoolExecutor, workers, mp_context=multiprocessing.get_context(method))


def numbers(*range_):
    return ([str(number)] for number in (range(*range_) if range_ else itertools.count()))


def messages(results):
    return [completed.message for completed in results]


def squares(count):
    return [str(number**2) for number in range(count)]


def kill_the_workers():
    """All of them: one alone might be one that has nothing to do, and then nothing is to be run again."""
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGKILL)


# --- executors --------------------------------------------------------------------------------------------


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


def test_threads_share_one_client(server, monkeypatch):
    clients = []
    connect = PieClient.connect
    monkeypatch.setattr(PieClient, "connect", lambda client: clients.append(client) or connect(client))
    with ThreadPoolExecutor(4) as executor:
        results = run_batch(server.uri, "square", numbers(200), executor, shard_size=10)
        assert messages(results) == squares(200)
    assert len(set(clients)) == 1
    assert clients[0].closed


def test_two_batches_at_once_in_the_same_workers(server):
    with processes()() as executor:
        batches = [run_batch(server.uri, "square", numbers(200), executor, shard_size=10) for _ in range(2)]
        for first, second, square in zip(*batches, squares(200)):
            assert first.message == second.message == square


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


# --- workers that die -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_shard_of_a_dead_worker_is_run_again(server, method):
    deadly_numbers = {30, 60}
    launched = []

    @server.program("deadly")
    def deadly(context):
        number = int(context.args[0])
        launched.append(number)
        if number in deadly_numbers:
            deadly_numbers.remove(number)
            kill_the_workers()
        return str(number**2)

    results = run_batch(server.uri, "deadly", numbers(100), processes(method), shard_size=10)
    assert messages(results) == squares(100)
    assert not deadly_numbers
    assert len(launched) > 100


def test_an_executor_that_can_not_be_replaced(server):
    @server.program("deadly")
    def deadly(context):
        kill_the_workers()

    with processes()() as executor:
        with pytest.raises(BrokenExecutor, match="pass a callable"):
            list(run_batch(server.uri, "deadly", numbers(100), executor, shard_size=10))


def test_a_shard_that_kills_every_worker_ends_the_batch(server):
    poisoned = []

    @server.program("deadly")
    def deadly(context):
        if context.args[0] == "25":
            poisoned.append(context.instance_id)
            kill_the_workers()
        return context.args[0]

    results = run_batch(server.uri, "deadly", numbers(40), processes(workers=1), shard_size=10)
    done = []
    with pytest.raises(BrokenExecutor):
        for completed in results:
            done.append(completed.message)
    assert done == [str(number) for number in range(20)]
    assert 3 <= len(poisoned) <= 6


# --- connections that are lost ----------------------------------------------------------------------------


def test_the_shard_of_a_lost_connection_is_run_again(server):
    lost = []

    @server.program("unplug")
    def unplug(context):
        if context.args[0] == "45" and not lost:
            lost.append(True)
            server.drop_connections()
        return str(int(context.args[0]) ** 2)

    results = run_batch(server.uri, "unplug", numbers(100), processes(), shard_size=10)
    assert messages(results) == squares(100)
    assert lost


def test_no_server():
    with LocalServer() as server:
        uri = server.uri
    with pytest.raises(PieConnectionError):
        next(run_batch(uri, "square", numbers(5), processes()))


# --- failures ---------------------------------------------------------------------------------------------


def test_a_failure_is_raised_at_its_place(server):
    results = run_batch(server.uri, "reciprocal", numbers(-3, 3), processes(), shard_size=2)
    assert [float(next(results).message) for _ in range(3)] == [1 / -3, 1 / -2, -1.0]
    with pytest.raises(InstanceFailed, match="ZeroDivisionError") as caught:
        next(results)
    assert caught.value.completed.message == "ZeroDivisionError: division by zero"


def test_failures_are_returned(server):
    results = run_batch(
        server.uri, "reciprocal", numbers(-3, 3), processes(), shard_size=2, return_exceptions=True, retries=1
    )
    assert [type(result).__name__ for result in results] == [
        *["CompletedInstance"] * 3,
        "InstanceFailed",
        *["CompletedInstance"] * 2,
    ]


def test_an_input_that_makes_no_sense(server):
    results = run_batch(server.uri, "square", [["2"], "3"], processes())
    assert next(results).message == "4"
    with pytest.raises(TypeError, match="did you mean"):
        next(results)


# --- endless inputs, and stopping early -------------------------------------------------------------------


def test_endless_inputs(server):
    taken = []

    def inputs():
        for number in itertools.count():
            taken.append(number)
            yield [str(number)]

    results = run_batch(server.uri, "square", inputs(), processes(), shard_size=5, max_shards=4)
    assert messages(itertools.islice(results, 50)) == squares(50)
    assert len(taken) <= 50 + 4 * 5
    results.close()


def test_closing_ends_the_threads_shards(server):
    begun = threading.Event()

    @server.program("endless")
    def endless(context):
        begun.set()
        context.receive()

    with ThreadPoolExecutor(1) as executor:
        inputs = itertools.chain([["1"]], itertools.repeat(["2"]))
        results = run_batch(server.uri, "square", inputs, executor, shard_size=1)
        assert next(results).message == "1"
        results.close()
        results = run_batch(server.uri, "endless", inputs, executor, shard_size=1)
        waiter = threading.Thread(target=lambda: begun.wait(10) and interrupt())

        def interrupt():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        waiter.start()
        with pytest.raises(KeyboardInterrupt):
            next(results)
        waiter.join()


# --- who we are -------------------------------------------------------------------------------------------


@pytest.fixture
def strict_server(key_file):
    with LocalServer(users={"alice": key_file.with_suffix(".pub").read_text()}) as server:

        @server.program("who")
        def who(context):
            return context.username

        yield server


@pytest.mark.parametrize("kind", [str, Path])
def test_a_key_file(strict_server, key_file, kind):
    results = run_batch(strict_server.uri, "who", [[]] * 4, processes(), username="alice", key=kind(key_file))
    assert messages(results) == ["alice"] * 4


def test_a_relative_key_file(strict_server, key_file, monkeypatch):
    monkeypatch.chdir(key_file.parent)
    results = run_batch(strict_server.uri, "who", [[]], processes(), username="alice", key=key_file.name)
    monkeypatch.chdir("/")
    assert messages(results) == ["alice"]


def test_no_key(strict_server):
    with pytest.raises(AuthenticationError):
        next(run_batch(strict_server.uri, "who", [[]], processes(), username="alice"))


def test_a_key_does_not_travel(server, private_key):
    with pytest.raises(TypeError, match="a key does not travel"):
        run_batch(server.uri, "square", [], processes(), key=private_key)


def test_the_agent(server, monkeypatch):
    monkeypatch.delattr(ParsedPrivateKey, "from_agent", raising=False)
    with pytest.raises(InvalidKeyError, match="ssh-agent"):
        run_batch(server.uri, "square", [], processes(), key="agent")


def test_the_agent_of_the_worker(strict_server, private_key, monkeypatch):
    monkeypatch.setattr(ParsedPrivateKey, "from_agent", lambda: private_key, raising=False)
    results = run_batch(strict_server.uri, "who", [[]], processes(), username="alice", key="agent")
    assert messages(results) == ["alice"]


# --- arguments --------------------------------------------------------------------------------------------


def test_a_file_is_uploaded_from_here(server, tmp_path):
    path = tmp_path / "hello.wasm"
    path.write_bytes(HELLO)
    results = run_batch(server.uri, path, [["one"], ["two"]], processes())
    path.unlink()
    assert [completed.stdout.splitlines()[0] for completed in results] == ["Hello, one!", "Hello, two!"]


def test_client_options(server):
    results = run_batch(
        server.uri, "square", numbers(2), processes(), client_options={"protocol": "instance", "timeout": 5}
    )
    assert messages(results) == ["0", "1"]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"client_options": {"ssl_context": ssl.create_default_context()}}, TypeError, "ssl_context"),
        ({"client_options": 5}, TypeError, "mapping"),
        ({"executor": 5}, TypeError, "executor must be"),
        ({"key": 5}, TypeError, "key must be"),
        ({"shard_size": 0}, ValueError, "shard_size"),
        ({"max_shards": 0}, ValueError, "max_shards"),
        ({"concurrency": 0}, ValueError, "concurrency"),
        ({"retries": -1}, ValueError, "retries"),
        ({"uri": "http://x"}, ValueError, "server_uri"),
        ({"username": 5}, TypeError, "username"),
        ({"program": b""}, TypeError, "program"),
        ({"inputs": 5}, TypeError, "iterable"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_mistakes_are_told_at_once(options, error, text):
    arguments = {"uri": "ws://127.0.0.1:1", "program": "square", "inputs": [], "executor": processes(), **options}
    with pytest.raises(error, match=text):
        run_batch(**arguments)


def test_what_a_worker_sends_back_can_be_pickled(client):
    with pytest.raises(InstanceFailed) as caught:
        client.launch_instance_from_registry("fail").wait(check=True)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.instance_id, copy.completed) == (caught.value.instance_id, caught.value.completed)
