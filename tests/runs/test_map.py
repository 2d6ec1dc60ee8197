"""Many instances over one connection, driven by the thread that takes their results."""

import gc
import itertools
import os
import re
import signal
import threading
import time
from collections import Counter

import psutil
import pytest

from pie_sync import (
    AuthenticationError,
    CompletedInstance,
    Event,
    InstanceFailed,
    LaunchError,
    PieClient,
    PieConnectionError,
    PieTimeoutError,
    PieValueError,
    ProtocolError,
)
from pie_sync._runs import map as map_module
from pie_sync._runs.launch import Launch
from pie_sync._runs.map import LOOK_AHEAD
from pie_sync._session.pending_request import PendingRequest
from pie_sync._session.session import Session
from pie_sync._transport.websocket import WebSocket
from pie_sync.testing import LocalServer
from tests.lost_ends import LostEnds, probe_soon
from tests.programs import HELLO
from tests.scripted import scripted_server, wait_for_close


def numbers(count=None):
    """Arguments: ["0"], ["1"], ["2"], ..."""
    return ([str(number)] for number in (itertools.count() if count is None else range(count)))


def messages(results):
    return [completed.message for completed in results]


class Gauge:
    """Counts the instances that run at the moment, and in all."""

    def __init__(self):
        self.running = self.highest = self.launched = 0
        self.changed = threading.Condition()

    def __enter__(self):
        with self.changed:
            self.running += 1
            self.launched += 1
            self.highest = max(self.highest, self.running)
            self.changed.notify_all()

    def __exit__(self, *_):
        with self.changed:
            self.running -= 1
            self.changed.notify_all()

    def wait_for(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, timeout=10)


@pytest.fixture
def gauge(server):
    gauge = Gauge()

    @server.program("square")
    def square(context):
        with gauge:
            return str(int(context.args[0]) ** 2)

    @server.program("together")
    def together(context):
        """End only when as many are running as the second argument says."""
        with gauge, gauge.changed:
            if not gauge.changed.wait_for(lambda: gauge.highest >= int(context.args[1]), timeout=10):
                raise RuntimeError("alone")
            return context.args[0]

    @server.program("endless")
    def endless(context):
        with gauge:
            context.send("begun")
            context.receive()

    @server.program("odd-ones-wait")
    def odd_ones_wait(context):
        """Odd numbers never end, even ones do at once."""
        with gauge:
            if int(context.args[0]) % 2:
                context.receive()
            return context.args[0]

    @server.program("flaky")
    def flaky(context):
        """Fail the first so many times, by the second argument, for each first argument."""
        with gauge:
            attempts[context.args[0]] += 1
            if attempts[context.args[0]] <= int(context.args[1]):
                raise RuntimeError(f"attempt {attempts[context.args[0]]}")
            return context.args[0]

    attempts = Counter()
    gauge.attempts = attempts
    return gauge


# --- results ----------------------------------------------------------------------------------------------


def test_in_the_order_of_the_inputs(client, gauge):
    results = client.map("square", numbers(100))
    assert messages(results) == [str(number**2) for number in range(100)]
    assert gauge.launched == 100


def test_nothing_to_do(client):
    assert list(client.map("square", [])) == []


def test_all_that_an_instance_has_sent(client):
    (completed,) = client.map("talk", [["a", "b"]])
    assert isinstance(completed, CompletedInstance)
    assert completed.event is Event.Completed
    assert completed.messages == ("message 1", "message 2")
    assert completed.blobs == (b"blob 1",)


def test_mappings_as_inputs(client):
    assert messages(client.map("talk", [{"tokens": 5}, ["b"]])) == ["--tokens 5", "b"]


def test_an_uploaded_program(client, tmp_path):
    path = tmp_path / "hello.wasm"
    path.write_bytes(HELLO)
    results = client.map(path, [["one"], ["two"]])
    assert [completed.stdout.splitlines()[0] for completed in results] == ["Hello, one!", "Hello, two!"]


def test_as_they_finish(client, gauge):
    results = client.map("odd-ones-wait", numbers(), concurrency=3, ordered=False)
    # Both odd ones that come by keep a place for good. The even ones pass.
    assert {next(results).message for _ in range(2)} == {"0", "2"}
    results.close()


def test_the_same_results_in_any_order(client, gauge):
    results = client.map("square", numbers(200), ordered=False)
    assert sorted(map(int, messages(results))) == [number**2 for number in range(200)]


def test_a_big_result_waits_without_being_consumed(client):
    results = client.map("flood", [["5000"]] * 4, concurrency=4)
    assert [len(completed.messages) for completed in results] == [5000] * 4


# --- how many at a time -----------------------------------------------------------------------------------


def test_as_many_at_a_time_as_allowed(client, gauge):
    results = client.map("together", ([str(number), "7"] for number in range(50)), concurrency=7)
    assert messages(results) == [str(number) for number in range(50)]
    assert gauge.highest == 7


def test_one_at_a_time(client, gauge):
    assert len(list(client.map("square", numbers(20), concurrency=1))) == 20
    assert gauge.highest == 1


def test_launches_do_not_wait_for_each_other():
    """All launches of a batch are on their way before the first is answered."""
    seen = []

    def script(peer):
        peer.authenticate()
        launches = [peer.receive() for _ in range(16)]
        seen.extend(launch["type"] for launch in launches)
        for number, launch in enumerate(launches):
            peer.send(
                type="instance_launch_result", corr_id=launch["corr_id"], successful=True, message=f"i{number}"
            )
            peer.event(1, str(number), f"i{number}")
        wait_for_close(peer)

    with scripted_server(script) as uri, PieClient(uri, protocol="instance") as client:
        client.authenticate("alice")
        assert messages(client.map("any", numbers(16))) == [str(number) for number in range(16)]
    assert seen == ["launch_instance_from_registry"] * 16


def test_no_thread_of_its_own(server, gauge):
    with PieClient(server.uri) as client:
        client.authenticate("alice")
        before = {thread for thread in threading.enumerate() if "pie-sync" in thread.name}
        results = client.map("together", ([str(number), "40"] for number in range(80)), concurrency=40)
        next(results)
        assert {thread for thread in threading.enumerate() if thread.name.startswith("pie-sync")} == before
        results.close()


@pytest.mark.parametrize("ordered", [True, False])
def test_bounded_look_ahead_over_endless_inputs(client, gauge, ordered):
    taken = itertools.count()
    inputs = ([str(next(taken))] for _ in itertools.count())
    results = client.map("square", inputs, concurrency=5, ordered=ordered)
    for yielded in range(1, 101):
        next(results)
        assert int(repr(taken)[6:-1]) <= yielded + LOOK_AHEAD * 5
    results.close()


def test_a_slow_one_holds_up_only_so_many(client, gauge):
    """In order, what is behind a slow one waits; and no more than the look-ahead is begun."""
    taken = []

    def inputs():
        for number in itertools.count():
            taken.append(number)
            yield [str(number)]

    results = client.map("odd-ones-wait", inputs(), concurrency=4)
    assert next(results).message == "0"

    def wait():
        with pytest.raises(PieConnectionError):
            next(results)

    waiter = threading.Thread(target=wait)
    waiter.start()
    gauge.wait_for(lambda: gauge.running == 4)  # nothing but odd ones
    assert len(taken) <= 1 + LOOK_AHEAD * 4
    client.close()
    waiter.join()


def test_memory_does_not_grow(client, gauge):
    process = psutil.Process()
    results = client.map("square", numbers(), concurrency=32)
    for _ in itertools.islice(results, 500):
        pass
    gc.collect()
    before = process.memory_info().rss
    for _ in itertools.islice(results, 3000):
        pass
    gc.collect()
    assert process.memory_info().rss - before < 8 * 1024 * 1024
    results.close()
    assert not client._manager.connection.session.router._queues
    assert not client._manager.connection.session.router.unclaimed.events_queued()


# --- failures ---------------------------------------------------------------------------------------------


def test_a_failure_is_raised_at_its_place(client, gauge):
    inputs = [["0", "0"], ["1", "0"], ["2", "9"], ["3", "0"]]
    results = client.map("flaky", inputs)
    assert [next(results).message, next(results).message] == ["0", "1"]
    with pytest.raises(InstanceFailed, match="attempt 1"):
        next(results)
    assert next(results, None) is None


def test_failures_are_returned(client, gauge):
    inputs = [["0", "0"], ["1", "9"], ["2", "0"]]
    first, failed, last = client.map("flaky", inputs, return_exceptions=True)
    assert [first.message, last.message] == ["0", "2"]
    assert isinstance(failed, InstanceFailed)
    assert failed.completed.event is Event.Exception


def test_an_unknown_program(client):
    with pytest.raises(LaunchError, match="map failed"):
        next(client.map("nobody-wrote-this", numbers()))
    errors = list(client.map("nobody-wrote-this", numbers(20), return_exceptions=True, retries=1))
    assert [type(error) for error in errors] == [LaunchError] * 20


def test_retries(client, gauge):
    inputs = [[str(number), str(number % 3)] for number in range(30)]
    results = client.map("flaky", inputs, retries=2, concurrency=4)
    assert messages(results) == [str(number) for number in range(30)]
    assert gauge.attempts == {str(number): number % 3 + 1 for number in range(30)}


def test_not_enough_retries(client, gauge):
    (failed,) = client.map("flaky", [["0", "9"]], retries=2, return_exceptions=True)
    assert "attempt 3" in str(failed)
    assert gauge.attempts["0"] == 3


def test_a_retry_that_waits_for_a_place_is_not_asked_for_again_and_again(server, client, monkeypatch):
    go_on, seen = threading.Event(), []

    @server.program("fails-first")
    def fails_first(context):
        seen.append(context.args[0])
        if seen == ["0"]:
            raise RuntimeError("bad luck")
        if context.args[0] == "1":
            assert go_on.wait(20)
        return context.args[0]

    def collect(batch, *, block):
        if len(seen) >= 2 and batch._again and batch._again[0][0] < time.monotonic():
            looks.append(block)
            if len(looks) > 5:
                go_on.set()
            began = time.monotonic()
            original(batch, block=block)
            waits.append(time.monotonic() - began)
        else:
            original(batch, block=block)

    looks, waits, original = [], [], map_module._Batch._collect
    monkeypatch.setattr(map_module._Batch, "_collect", collect)
    results = client.map("fails-first", [["0"], ["1"]], concurrency=1, retries=1, ordered=False)
    assert sorted(one.message for one in results) == ["0", "1"]
    assert sum(waits[: len(looks) - 1]) > 0.2, "it waited for the place"


@pytest.mark.parametrize("return_exceptions", [False, True])
@pytest.mark.parametrize(
    ("bad", "error"), [("5", "did you mean"), ([5], "must be a str"), (5, "not iterable")], ids=repr
)
def test_an_input_that_makes_no_sense(client, gauge, bad, error, return_exceptions):
    results = client.map("square", [["1"], ["2"], bad, ["3"]], retries=3, return_exceptions=return_exceptions)
    assert [next(results).message, next(results).message] == ["1", "4"]
    with pytest.raises(TypeError, match=rf"inputs\[2\]: .*{error}"):
        next(results)
    assert gauge.launched <= 3


def test_inputs_that_fail(client, gauge):
    def inputs():
        yield ["2"]
        raise OSError("the file is torn")

    results = client.map("square", inputs())
    assert next(results).message == "4"
    with pytest.raises(OSError, match="torn"):
        next(results)


def test_a_lost_connection_is_raised_whatever_happens(server, client, gauge):
    results = client.map("odd-ones-wait", numbers(), retries=1, return_exceptions=True)
    assert next(results).message == "0"
    server.drop_connections()
    with pytest.raises(PieConnectionError):
        next(results)


def test_an_unanswered_launch_and_a_late_answer():
    """What is answered too late is terminated while the rest goes on."""
    terminated = []

    def script(peer):
        peer.authenticate()
        late = peer.receive()
        request = peer.receive()  # of the retry: the time of the first is over
        peer.send(type="instance_launch_result", corr_id=late["corr_id"], successful=True, message="late")
        while request["type"] != "terminate_instance":
            waiting, request = request, peer.receive()
        terminated.append(request["instance_id"])
        peer.respond(request)
        peer.send(type="instance_launch_result", corr_id=waiting["corr_id"], successful=True, message="i1")
        peer.event(1, "done", "i1")
        wait_for_close(peer)

    with scripted_server(script) as uri, PieClient(uri, protocol="instance", timeout=1) as client:
        client.authenticate("alice")
        assert messages(client.map("any", [["x"]], retries=1)) == ["done"]
    assert terminated == ["late"]


def test_a_server_that_never_answers():
    def script(peer):
        peer.authenticate()
        wait_for_close(peer)

    with scripted_server(script) as uri, PieClient(uri, protocol="instance", timeout=0.2) as client:
        client.authenticate("alice")
        outcomes = list(client.map("any", numbers(5), return_exceptions=True, concurrency=2))
    assert [type(outcome) for outcome in outcomes] == [PieTimeoutError] * 5


def test_nonsense_from_an_instance_ends_it():
    terminated = []

    def script(peer):
        peer.authenticate()
        peer.launch()
        peer.send(
            type="download_blob",
            corr_id=0,
            instance_id="instance-1",
            blob_hash="0" * 64,
            chunk_index=0,
            total_chunks=1,
            chunk_data=b"not what was announced",
        )
        request = peer.receive()
        terminated.append(request["instance_id"])
        peer.respond(request)
        wait_for_close(peer)

    with scripted_server(script) as uri, PieClient(uri, protocol="instance") as client:
        client.authenticate("alice")
        with pytest.raises(ProtocolError, match="do not match"):
            next(client.map("any", numbers(1)))
    assert terminated == ["instance-1"]


# --- many launches in one write ---------------------------------------------------------------------------


@pytest.fixture
def writes(monkeypatch):
    """How many messages went out in each write."""
    counts = []
    send = WebSocket.send

    def counting(self, frames, deadline, count=1, on_begin=None):
        counts.append(count)
        send(self, frames, deadline, count, on_begin)

    monkeypatch.setattr(WebSocket, "send", counting)
    return counts


@pytest.mark.parametrize("kind", [list, tuple])
def test_what_there_are_places_for_goes_out_in_two_writes(client, gauge, writes, kind):
    inputs = kind([[str(number), "16"] for number in range(16)])
    assert len(messages(client.map("together", inputs, concurrency=16))) == 16
    assert writes == [8, 8]  # so that the server has one half while this side works on the other


def test_large_arguments_go_out_in_parts(server, client, writes):
    server.program("second-of-two")(lambda context: context.args[1])
    inputs = [["x" * 100_000, str(number)] for number in range(13)]
    results = client.map("second-of-two", inputs, concurrency=13)
    assert messages(results) == [str(number) for number in range(13)]
    assert writes == [3, 3, 1, 3, 3]


def test_no_launch_waits_for_an_input():
    received = [threading.Event() for _ in range(20)]

    def script(peer):
        peer.authenticate()
        for number, event in enumerate(received):
            request = peer.receive()
            event.set()
            peer.send(
                type="instance_launch_result", corr_id=request["corr_id"], successful=True, message=f"i{number}"
            )
            peer.event(1, str(number), f"i{number}")
        wait_for_close(peer)

    def inputs():
        for number, event in enumerate(received):
            yield [str(number)]
            # As a program that has no more to give before this is done.
            assert event.wait(10)

    with scripted_server(script) as uri, PieClient(uri, protocol="instance") as client:
        client.authenticate("alice")
        assert messages(client.map("any", inputs(), concurrency=8)) == [str(number) for number in range(20)]


@pytest.mark.parametrize("ordered", [True, False])
def test_inputs_that_fail_after_some(client, gauge, ordered):
    def inputs():
        yield from numbers(30)
        raise OSError("no more of them")

    results = client.map("square", inputs(), concurrency=4, ordered=ordered)
    received = []
    with pytest.raises(OSError, match="no more of them"):
        for completed in results:
            received.append(completed.message)
    if ordered:
        assert received == [str(number**2) for number in range(30)]
    assert client.stats().pending_requests == 0


@pytest.mark.parametrize("bad", [["\ud800"], {"a-b": 1}, {"a": object()}])
def test_an_input_that_can_not_be_encoded_among_others_of_the_same_write(client, gauge, bad):
    inputs = [*numbers(6), bad, *numbers(6)]
    results = client.map("square", inputs, concurrency=16)
    assert messages(itertools.islice(results, 6)) == [str(number**2) for number in range(6)]
    with pytest.raises((TypeError, ValueError)):
        next(results)
    assert nothing_is_kept(client, gauge)
    assert client.stats().pending_requests == 0


def test_a_write_that_times_out_is_the_outcome_of_each_of_its_inputs():
    done = threading.Event()

    def script(peer):
        peer.authenticate()
        done.wait(60)  # without reading anything
        wait_for_close(peer)

    inputs = [["x" * 100_000] * 10 + [str(number)] for number in range(30)]
    with scripted_server(script, max_size=None) as uri:
        client = PieClient(uri, protocol="instance", timeout=0.5)
        client.connect()
        client.authenticate("alice")
        outcomes = list(client.map("any", inputs, concurrency=30, return_exceptions=True))
        done.set()
        client.close()
    assert [type(outcome) for outcome in outcomes] == [PieTimeoutError] * 30
    assert len(set(map(id, outcomes))) == 30
    assert [outcome.input for outcome in outcomes] == inputs


@pytest.mark.parametrize("raised", [KeyboardInterrupt, ValueError, PieConnectionError])
def test_what_a_signal_handler_raises_between_encoding_and_sending(client, gauge, monkeypatch, raised):
    """It is raised as it is, and launches that the server has never heard of are not waited for."""

    def handler(signum, frame):
        raise raised("by the signal handler")

    def request_all(*arguments):
        if passes:
            signal.raise_signal(signal.SIGUSR1)
        passes.append(arguments)
        original(*arguments)

    def wait(request, deadline):
        waited.append(request.is_sent or request.on_success is None)
        return original_wait(request, deadline)

    passes, waited = [], []
    original, original_wait = Session.request_all, PendingRequest.wait
    monkeypatch.setattr(Session, "request_all", request_all)
    monkeypatch.setattr(PendingRequest, "wait", wait)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(raised, match="by the signal handler"):
            list(client.map("odd-ones-wait", numbers(20), concurrency=8, return_exceptions=True, retries=3))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(passes) == 1
    assert all(waited)
    assert nothing_is_kept(client, gauge)
    assert client.stats().pending_requests == 0


def test_a_connection_that_is_lost_in_the_middle_and_restored(server, gauge):
    with PieClient(server.uri, reconnect=True) as client:
        client.authenticate("alice")
        results = client.map("square", numbers(400), concurrency=16, retries=5)
        received = []
        for completed in results:
            received.append(completed.message)
            if len(received) in (100, 200):
                server.drop_connections()
        assert received == [str(number**2) for number in range(400)]
        assert client.stats().reconnects >= 1
        assert nothing_is_kept(client, gauge)


def test_launches_are_gone_without_the_garbage_collector(client, gauge):
    gc.collect()  # those of earlier tests
    gc.disable()
    try:
        results = client.map("square", numbers(200), concurrency=16)
        assert len(messages(results)) == 200
        assert not any(type(thing) is Launch for thing in gc.get_objects())
    finally:
        gc.enable()


# --- stopping early ---------------------------------------------------------------------------------------


def nothing_is_kept(client, gauge):
    gauge.wait_for(lambda: gauge.running == 0)
    assert client.list_instances() == [] or all(info.status == "Finished" for info in client.list_instances())
    return not client._manager.connection.session.router._queues


@pytest.mark.parametrize("way", ["close", "exception", "dropped"])
def test_stopping_terminates_what_runs(client, gauge, way):
    inputs = itertools.chain([["0"]], itertools.repeat(["1"]))
    results = client.map("odd-ones-wait", inputs, concurrency=8)
    assert next(results).message == "0"
    gauge.wait_for(lambda: gauge.running >= 7)
    if way == "close":
        results.close()
    elif way == "exception":
        with pytest.raises(ValueError, match="by the caller"):
            results.throw(ValueError("by the caller"))
    else:
        del results
    assert nothing_is_kept(client, gauge)


def test_a_break_in_the_middle(client, gauge):
    for number, completed in enumerate(client.map("square", numbers(), concurrency=8)):
        assert completed.message == str(number**2)
        if number == 20:
            break
    assert nothing_is_kept(client, gauge)


def test_a_failure_terminates_the_others(client, gauge):
    inputs = [["0"], *[["1"]] * 5, ["no number"]]
    with pytest.raises(InstanceFailed, match="invalid literal"):
        list(client.map("odd-ones-wait", inputs, ordered=False))
    assert nothing_is_kept(client, gauge)


def test_ctrl_c_terminates_what_runs(client, gauge):
    def interrupt():
        gauge.wait_for(lambda: gauge.running == 4)
        # To the main thread, as the terminal would: it's waiting.
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        next(client.map("endless", numbers(), concurrency=4))
    thread.join()
    assert nothing_is_kept(client, gauge)
    assert client.ping() > 0


def test_launches_on_their_way_are_terminated_as_well():
    terminated = []

    def script(peer):
        peer.authenticate()
        launches = [peer.receive() for _ in range(3)]
        interrupt.set()
        for number, launch in enumerate(launches):
            time.sleep(0.1)  # a slow server: stopping has begun
            peer.send(
                type="instance_launch_result", corr_id=launch["corr_id"], successful=True, message=f"i{number}"
            )
        for _ in launches:
            request = peer.receive()
            terminated.append(request["instance_id"])
            peer.respond(request)
        wait_for_close(peer)

    def press():
        interrupt.wait(10)
        # The server may have all before the client knows: pressed within that write, it closes the connection.
        while client.stats().messages_sent < before + 3:
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    interrupt = threading.Event()
    thread = threading.Thread(target=press)
    with scripted_server(script) as uri, PieClient(uri, protocol="instance") as client:
        client.authenticate("alice")
        before = client.stats().messages_sent
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            next(client.map("any", numbers(3), concurrency=4))
    thread.join()
    assert terminated == ["i0", "i1", "i2"]


def test_a_generator_in_a_cycle_is_collected_wherever_it_may_be(client, gauge):
    """Also in a thread that holds the session's lock: then it can't talk to the server, and must not try to."""
    results = client.map("odd-ones-wait", numbers(), concurrency=4)
    next(results)
    cycle = [results]
    cycle.append(cycle)
    del results, cycle
    session = client._manager.connection.session
    with session.router.pending._lock:
        gc.collect()
    assert client.ping() > 0  # is answered after the launches that were under way
    assert not session.router._queues


def test_after_the_client_was_closed(server, gauge):
    with PieClient(server.uri) as client:
        client.authenticate("alice")
        results = client.map("odd-ones-wait", numbers())
        next(results)
    begin = time.monotonic()
    results.close()
    assert time.monotonic() - begin < 1
    server.drop_connections()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork() in a process with threads
def test_in_a_forked_child(client, gauge):
    results = client.map("odd-ones-wait", numbers())
    assert next(results).message == "0"
    child = os.fork()
    if child == 0:
        try:
            next(results)
        except PieConnectionError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.ping() > 0
    results.close()


# --- arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"concurrency": 0}, ValueError),
        ({"concurrency": 2.5}, TypeError),
        ({"concurrency": True}, TypeError),
        ({"retries": -1}, ValueError),
        ({"inputs": 5}, TypeError),
        ({"program": b"bytes"}, TypeError),
    ],
    ids=repr,
)
def test_mistakes_are_told_at_once(client, options, error):
    arguments = {"program": "square", "inputs": [], **options}
    with pytest.raises(error):
        client.map(**arguments)


@pytest.mark.parametrize("bad", [{"a-b": 1}, ["\ud800"]], ids=["can't be encoded", "can't be sent"])
def test_a_mistake_in_an_input_is_no_outcome_of_its_instance(server, client, bad):
    """``return_exceptions`` is for what becomes of instances; a mistake is a PieError, and raised all the same."""
    server.program("square")(lambda context: context.args[0])
    results = client.map("square", [["1"], bad, ["2"]], return_exceptions=True, retries=3, concurrency=1)
    assert next(results).message == "1"
    with pytest.raises(PieValueError):
        next(results)


def test_not_authenticated(server):
    with PieClient(server.uri) as stranger, pytest.raises(AuthenticationError, match="authenticate first"):
        stranger.map("square", [])


# --- ends that the server loses, and instances that take too long ------------------------------------------------


@pytest.fixture
def losing(monkeypatch):
    """Lose the end of every third instance at the first attempt."""
    probe_soon(monkeypatch)
    attempts = set()

    def loses(output):
        first = (key := str(output.instance.arguments)) not in attempts
        attempts.add(key)
        return first and any(number % 3 == 0 for number in digits(key))

    return LostEnds(monkeypatch, loses)


def digits(text):
    return [int("".join(filter(str.isdigit, text)))]


@pytest.mark.parametrize("profile", ["instance", "process", "process-0.5"])
def test_200_instances_that_end_at_once_and_the_server_loses_a_third_of_the_ends(profile, losing):
    with LocalServer(protocol=profile) as server:
        server.program("name@0.1.0")(lambda context: str(context.input or context.args[0]))
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            inputs = [[str(number)] for number in range(200)]
            outcomes = list(client.map("name@0.1.0", inputs, concurrency=50, return_exceptions=True))
            failed = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, InstanceFailed)]
            assert failed == list(range(0, 200, 3))
            assert losing.count == len(failed)
            assert all(outcomes[index].completed.event is Event.ServerError for index in failed)
            again = client.map(
                "name@0.1.0", [[str(number)] for number in range(200, 400)], concurrency=50, retries=1
            )
            assert sum(completed.event is Event.Completed for completed in again) == 200
            assert client.stats().pending_requests == 0
            assert client.list_instances() == []


@pytest.mark.parametrize("profile", ["instance", "process-0.5"])
def test_lost_ends_and_lost_connections(profile, losing):
    with LocalServer(protocol=profile) as server:
        server.program("name@0.1.0")(lambda context: "here")
        with PieClient(server.uri, reconnect=True) as client:
            client.authenticate("alice")
            inputs = ([str(number)] for number in range(200))
            results = client.map("name@0.1.0", inputs, concurrency=20, retries=30, ordered=False)
            for count, completed in enumerate(results, 1):
                assert completed.event is Event.Completed
                if count % 40 == 0:
                    server.drop_connections()
            assert count == 200
            assert client.stats().reconnects >= 1
    assert losing.count >= 60


def test_an_instance_that_takes_too_long_is_terminated_and_the_others_go_on(client, gauge):
    outcomes = list(client.map("odd-ones-wait", numbers(20), concurrency=5, timeout=1.5, return_exceptions=True))
    for number, outcome in enumerate(outcomes):
        if number % 2:
            assert isinstance(outcome, PieTimeoutError)
            assert re.search("instance .* not ended within 1.5 s", str(outcome))
            assert outcome.instance_id is not None
        else:
            assert outcome.message == str(number)
    gauge.wait_for(lambda: gauge.running == 0)
    assert client.list_instances() == []


def test_an_instance_that_takes_too_long_is_tried_again(client, server):
    attempts = Counter()

    @server.program("hangs-at-first")
    def hangs_at_first(context):
        attempts[context.args[0]] += 1
        return context.receive() if attempts[context.args[0]] == 1 else context.args[0]

    results = client.map("hangs-at-first", numbers(10), concurrency=10, timeout=1.5, retries=1)
    assert messages(results) == [str(number) for number in range(10)]
    assert set(attempts.values()) == {2}


def test_without_retries_the_time_limit_of_an_instance_is_raised(client, gauge):
    with pytest.raises(PieTimeoutError, match="not ended within 0.3 s"):
        list(client.map("endless", numbers(3), timeout=0.3))
    gauge.wait_for(lambda: gauge.running == 0)


def test_the_time_limit_is_also_for_the_answer_to_the_launch():
    def script(peer):
        peer.authenticate()
        wait_for_close(peer)

    with scripted_server(script) as uri, PieClient(uri, timeout=30) as client:
        client.authenticate("alice")
        begin = time.monotonic()
        with pytest.raises(PieTimeoutError, match="no answer to a launch from the server within 0.3 s") as caught:
            list(client.map("any", [[]], timeout=0.3))
        assert caught.value.instance_id is None
        assert time.monotonic() - begin < 10


@pytest.mark.parametrize("profile", ["instance", "process", "process-0.5"])
def test_the_time_limit_of_a_silent_instance_says_what_may_have_happened(profile, monkeypatch):
    """Where only a list tells who runs, an instance that is listed may still have ended."""
    probe_soon(monkeypatch)
    with LocalServer(protocol=profile) as server:
        server.program("waits@0.1.0")(lambda context: context.receive())
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            with pytest.raises(PieTimeoutError) as caught:
                list(client.map("waits@0.1.0", [[]], timeout=1))
            assert ("the server has lost its end" in str(caught.value)) == (profile != "instance")


def test_time_limits_that_make_no_sense(client):
    with pytest.raises(ValueError, match="timeout must not be negative"):
        client.map("square", [], timeout=-1)
    with pytest.raises(TypeError, match="timeout must be a number"):
        client.map("square", [], timeout="1")
