"""Shards of dead workers and lost connections, failures, endless inputs, and ends before the end."""

from __future__ import annotations

import gc
import itertools
import queue
import signal
import threading
import time
import weakref
from concurrent.futures import BrokenExecutor, CancelledError, Future, ThreadPoolExecutor
from functools import partial

import pytest

from pie_sync import InstanceFailed, PieClient, PieConnectionError
from pie_sync.batch import _worker, run_batch
from pie_sync.testing import LocalServer
from tests.batch.batches import kill_the_workers, messages, numbers, processes, squares

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # a process with threads


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


def gate(server, count):
    """Make a program whose instances from number ``count`` on wait for an event; return it, and who times out."""
    go_on, in_vain = threading.Event(), []

    @server.program("gate")
    def gate(context):
        if int(context.args[0]) >= count and not go_on.wait(30):
            in_vain.append(context.args[0])
        return context.args[0]

    return go_on, in_vain


def test_threads_hand_over_outcomes_before_their_shard_has_ended(server, tmp_path):
    go_on, in_vain = gate(server, 5)
    told = []
    results = run_batch(
        server.uri,
        "gate",
        list(numbers(200)),
        partial(ThreadPoolExecutor, 1),
        results=tmp_path / "out.jsonl",
        progress=told.append,
    )
    assert [next(results).message for _ in range(5)] == ["0", "1", "2", "3", "4"]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 5
    assert (results.servers[0].done, results.servers[0].running) == (5, 195)
    go_on.set()
    assert messages(results) == [str(number) for number in range(5, 200)]
    assert in_vain == []
    assert (told[-1].done, told[-1].failed) == (200, 0)


def test_processes_give_a_shard_back_before_its_end(server, monkeypatch):
    monkeypatch.setattr(_worker, "_GIVE_BACK", 0.2)
    launched, told = [], []

    @server.program("slow")
    def slow(context):
        launched.append(int(context.args[0]))
        time.sleep(0.03)  # the work of a model
        return str(int(context.args[0]) ** 2)

    results = run_batch(
        server.uri, "slow", list(numbers(100)), processes(workers=1), concurrency=2, progress=told.append
    )
    assert next(results).message == "0"
    assert len(launched) < 100
    assert messages(results) == squares(100)[1:]
    assert sorted(launched) == list(range(100))
    assert [progress.done for progress in told[:-1] if 0 < progress.done < 100]
    assert max(progress.running for progress in told) == 2


def test_running_is_what_the_workers_can_run(server):
    told = []
    inputs = list(numbers(256))
    results = run_batch(server.uri, "square", inputs, processes(workers=2), shard_size=32, progress=told.append)
    assert messages(results) == squares(256)
    assert max(progress.running for progress in told) == 32
    assert told[-1].running == 0


def test_inputs_may_wait_for_results(server):
    """The inputs fill no shard, and those behind the first come only when its result is there."""
    for options in ({}, {"shard_size": 1}):
        more = queue.SimpleQueue()
        more.put("2")

        def inputs(more=more):
            while (number := more.get(timeout=30)) != "256":
                yield [number]

        seen = []
        for result in run_batch(server.uri, "square", inputs(), partial(ThreadPoolExecutor, 2), **options):
            seen.append(result.message)
            more.put(result.message)
        assert seen == ["4", "16", "256"]


def test_no_more_inputs_are_taken_than_there_is_work_for(server):
    taken = []

    def inputs():
        for number in itertools.count():
            taken.append(number)
            yield [str(number)]

    with LocalServer() as second:
        second.program("square")(lambda context: str(int(context.args[0]) ** 2))
        uris = [server.uri, second.uri]
        results = run_batch(uris, "square", inputs(), partial(ThreadPoolExecutor, 1), shard_size=5)
        assert next(results).message == "0"
        # One worker, a shard in reserve for each server, one that is being filled, and those that came back.
        assert len(taken) <= 10 * 5
        results.close()


def test_inputs_that_fail(server, tmp_path):
    """What came before the error has its results, and its lines in the journal."""

    def inputs():
        yield from numbers(25)
        raise OSError("no more disk")

    results = run_batch(
        server.uri,
        "square",
        inputs(),
        partial(ThreadPoolExecutor, 2),
        shard_size=10,
        results=tmp_path / "out.jsonl",
    )
    seen = []
    with pytest.raises(OSError, match="no more disk"):
        for result in results:
            seen.append(result.message)
    assert seen == squares(25)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 25


def test_a_failure_that_is_raised_is_counted(server):
    told = []
    results = run_batch(
        server.uri, "reciprocal", list(numbers(-2, 3)), partial(ThreadPoolExecutor, 1), progress=told.append
    )
    with pytest.raises(InstanceFailed):
        list(results)
    assert (told[-1].done, told[-1].failed) == (3, 1)


def test_no_server():
    with LocalServer() as server:
        uri = server.uri
    with pytest.raises(PieConnectionError):
        next(run_batch(uri, "square", numbers(5), processes(), server_timeout=0.5))


def test_a_failure_is_raised_at_its_place(server):
    results = run_batch(server.uri, "reciprocal", numbers(-3, 3), processes(), shard_size=2)
    assert [float(next(results).message) for _ in range(3)] == [1 / -3, 1 / -2, -1.0]
    with pytest.raises(InstanceFailed, match="ZeroDivisionError") as caught:
        next(results)
    assert caught.value.completed.message == "Runtime error: ZeroDivisionError: division by zero"


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


def test_a_mistake_in_an_input_is_told_with_its_number_in_the_batch(server):
    inputs = [*numbers(25), "25"]
    results = run_batch(server.uri, "square", inputs, partial(ThreadPoolExecutor, 2), shard_size=10)
    with pytest.raises(TypeError, match=r"^inputs\[25\]: "):
        list(results)


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


def test_throwing_ends_the_batch(server):
    results = run_batch(server.uri, "square", numbers(), processes(), shard_size=5, max_shards=2)
    assert next(results).message == "0"
    with pytest.raises(LookupError, match="^enough$"):
        results.throw(LookupError("enough"))
    assert list(results) == []


def test_a_second_thread_does_not_end_the_batch(server):
    begun, go_on = threading.Event(), threading.Event()

    @server.program("wait")
    def wait(context):
        begun.set()
        go_on.wait(30)
        return context.args[0]

    with ThreadPoolExecutor(1) as executor:
        results = run_batch(server.uri, "wait", numbers(2), executor, shard_size=1)
        first = []
        thread = threading.Thread(target=lambda: first.append(next(results).message))
        thread.start()
        assert begun.wait(10)
        with pytest.raises(ValueError, match="already executing"):
            next(results)
        with pytest.raises(ValueError, match="already executing"):
            results.close()
        go_on.set()
        thread.join(10)
        assert first + messages(results) == ["0", "1"]


def test_dropping_waits_for_nothing(server):
    begun, dropped, awake = threading.Event(), threading.Event(), threading.Event()
    launched, waited = [], []

    @server.program("endless")
    def endless(context):
        launched.append(context.args[0])
        if context.args[0] != "0":
            begun.set()
            waited.append(dropped.wait(10))
            awake.set()
            context.receive()

    results = run_batch(server.uri, "endless", numbers(20), partial(ThreadPoolExecutor, 1, "worker"), shard_size=1)
    next(results)
    assert begun.wait(10)
    del results
    dropped.set()
    for thread in threading.enumerate():
        if thread.name.startswith("worker"):
            thread.join(10)
            assert not thread.is_alive()
    assert awake.wait(10)
    assert (launched, waited) == (["0", "1"], [True])


def test_a_batch_that_is_collected_anywhere(server, monkeypatch):
    """The garbage collector may run in a thread that holds the lock of the worker's clients."""
    connect = PieClient.connect

    def connect_and_collect(client):
        gc.collect()
        connect(client)

    gc.disable()
    try:
        with ThreadPoolExecutor(1) as executor:
            cycle = [run_batch(server.uri, "square", numbers(), executor, shard_size=1, max_shards=4)]
            assert next(cycle[0]).message == "0"
            collected = weakref.ref(cycle[0])
            cycle.append(cycle)
            del cycle
            monkeypatch.setattr(PieClient, "connect", connect_and_collect)
            results = run_batch(server.uri, "square", numbers(20), executor, shard_size=10)
            assert messages(results) == squares(20)
            assert collected() is None
    finally:
        gc.enable()


class FaultyExecutor(ThreadPoolExecutor):
    """Its calls fail as the list of faults says, one after the other: it breaks, or loses a worker, or works."""

    def __init__(self, faults):
        super().__init__(1)
        self._faults = faults

    def submit(self, function, *args):
        fault = self._faults.pop(0) if self._faults else None
        if fault == "submit":
            raise BrokenExecutor("broken when it is asked")
        if fault is None:
            return super().submit(function, *args)
        future = Future()
        if fault == "cancel":
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_exception(fault)
        return future


@pytest.mark.parametrize(
    "faults",
    [
        ["submit"],
        [None, "submit", "submit"],
        [RuntimeError("the worker has died")],
        ["cancel", "cancel"],
        [None, RuntimeError("died"), RuntimeError("died"), None, RuntimeError("died")],
        [BrokenExecutor("broken"), "cancel", None],
    ],
    ids=repr,
)
def test_a_faulty_executor(server, faults):
    left = list(faults)
    results = run_batch(server.uri, "square", numbers(30), partial(FaultyExecutor, left), shard_size=10)
    assert messages(results) == squares(30)
    assert left == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("submit", BrokenExecutor),
        ("cancel", CancelledError),
        (RuntimeError("the worker has died"), RuntimeError),
    ],
    ids=repr,
)
def test_an_executor_that_stays_faulty(server, fault, error):
    left = [fault] * 10
    with pytest.raises(error):
        next(run_batch(server.uri, "square", numbers(10), partial(FaultyExecutor, left), shard_size=10))
    assert len(left) == 7  # three attempts


def test_closing_a_batch_that_was_never_begun(server):
    results = run_batch(server.uri, "square", numbers(), processes())
    results.close()
    results.close()
    assert list(results) == []
