"""Batches over several servers: of different speeds, generations and users; killed, and started again."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from pie_sync import AuthenticationError, LaunchError, PieClient, PieConnectionError
from pie_sync.batch import Server, run_batch
from pie_sync.batch._servers import Endpoint, endpoints_of
from pie_sync.testing import LocalServer
from tests.batch.batches import messages, numbers, processes, squares
from tests.batch.servers import server_processes
from tests.programs import HELLO

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # a process with threads


def test_a_server_is_killed_and_comes_back_and_a_worker_dies(caplog):
    """Three servers of different speeds: every input has exactly one result, in order; the fast ones did more."""
    enough = threading.Event()

    def inputs():
        for number in itertools.count():
            if enough.is_set():
                return
            yield [str(number)]

    with (
        server_processes(0.001, 0.02, 0.3) as (fast, middle, slow),
        caplog.at_level(logging.INFO, "pie_sync.batch"),
    ):
        results = run_batch(
            [fast.uri, middle.uri, slow.uri],
            "square",
            inputs(),
            processes("spawn", 3),
            username="alice",
            shard_size=10,
            concurrency=4,
        )
        seen = []

        def go_on_until(condition):
            while not condition():
                seen.append(next(results).message)

        go_on_until(lambda: all(status.done for status in results.servers))
        middle.kill()
        go_on_until(lambda: results.servers[1].error is not None)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        before = sum(status.done for status in results.servers)
        go_on_until(lambda: sum(status.done for status in results.servers) > before + 200)
        middle.start()
        at_its_return = results.servers[1].done
        go_on_until(lambda: results.servers[1].done > at_its_return)
        enough.set()
        seen += messages(results)
    assert seen == squares(len(seen))
    done = [status.done for status in results.servers]
    assert sum(done) == len(seen)
    assert done[0] > done[1] > 0
    assert done[0] > done[2] > 0
    texts = [record.getMessage() for record in caplog.records]
    assert any(middle.uri in text and "is not there" in text for text in texts)
    assert f"{middle.uri} is there again" in texts


def test_throughput_grows_with_the_servers():
    """In one process. Each server has one instance at a time, so that only the number of servers matters."""
    with server_processes(0.02, 0.02) as servers:
        uris = [server.uri for server in servers]
        results = run_batch(
            uris,
            "square",
            numbers(60),
            partial(ThreadPoolExecutor, 2),
            username="alice",
            shard_size=5,
            concurrency=1,
        )
        assert messages(results) == squares(60)
        assert all(status.done >= 15 for status in results.servers)


def test_servers_of_all_generations():
    options = [{}, {"variant": "name"}, {"protocol": "process"}, {"protocol": "process-0.5"}]
    with LocalServer(**options[0]) as a, LocalServer(**options[1]) as b:
        with LocalServer(**options[2]) as c, LocalServer(**options[3]) as d:
            servers = [a, b, c, d]
            for server in servers:

                @server.program("square@0.1.0")
                def square(context):
                    # Each generation passes arguments in a form of its own.
                    [number] = re.findall("[0-9]+", str(context.args))
                    return str(int(number) ** 2)

            results = run_batch(
                [server.uri for server in servers],
                "square@0.1.0",
                numbers(80),
                partial(ThreadPoolExecutor, 4),
                username="alice",
                shard_size=5,
            )
            assert messages(results) == squares(80)
            assert all(server.instances for server in servers)


def test_a_program_in_a_file_reaches_every_server(tmp_path):
    """Also one that was not there in the beginning, and one that was started anew and has forgotten it."""
    path = tmp_path / "hello.wasm"
    path.write_bytes(HELLO)
    with server_processes(0, 0, 0) as servers:
        servers[2].kill()
        results = run_batch(
            [server.uri for server in servers],
            path,
            numbers(10_000),
            partial(ThreadPoolExecutor, 3),
            username="alice",
            shard_size=5,
            max_shards=8,
        )

        def next_from(place):
            """Go on until a server has run a shard more."""
            before = results.servers[place].done
            while results.servers[place].done == before:
                assert next(results).stdout.startswith("Hello, ")

        next_from(0)
        next_from(1)
        servers[2].start()
        next_from(2)
        servers[0].kill()
        while results.servers[0].error is None:
            next(results)
        servers[0].start()
        next_from(0)
        results.close()


def test_options_of_each_server(strict_server, key_file):
    with LocalServer(internal_token="secret") as other:

        @other.program("who")
        def who(context):
            return "by token"

        token_file = key_file.with_name("token")
        token_file.write_text("secret\n")
        servers = [
            Server(strict_server.uri, username="alice", key=key_file),
            Server(other.uri, token_file=token_file, client_options={"protocol": "instance"}),
        ]
        results = run_batch(
            servers, "who", [[]] * 40, partial(ThreadPoolExecutor, 2), username="bob", shard_size=2
        )
        assert set(messages(results)) == {"alice", "by token"}


def test_none_can_be_reached_at_the_beginning():
    with LocalServer() as a, LocalServer() as b:
        uris = [a.uri, b.uri]
    with pytest.raises(PieConnectionError, match="can't connect"):
        next(run_batch(uris, "square", numbers(5), ThreadPoolExecutor, server_timeout=0.5))


def test_a_server_that_is_started_after_the_batch():
    with LocalServer() as first:
        port = first.port
    with ExitStack() as stack:

        def start(progress):
            if progress.unreachable and not started:
                started.append(stack.enter_context(LocalServer(port=port)))
                started[0].program("square")(lambda context: str(int(context.args[0]) ** 2))

        started = []
        results = run_batch(
            f"ws://127.0.0.1:{port}", "square", numbers(50), partial(ThreadPoolExecutor, 2), progress=start
        )
        assert messages(results) == squares(50)
        assert results.servers[0].error is None


def test_a_file_for_servers_that_are_started_after_the_batch(tmp_path):
    path = tmp_path / "hello.wasm"
    path.write_bytes(HELLO)
    with LocalServer() as first:
        port = first.port
    results = run_batch(f"ws://127.0.0.1:{port}", path, numbers(5), partial(ThreadPoolExecutor, 2))
    with LocalServer(port=port):
        assert [result.stdout[:7] for result in results] == ["Hello, "] * 5


def test_no_server_knows_the_user(strict_server):
    """No time limit is waited for, since that does not heal."""
    with LocalServer(users={}) as other:
        results = run_batch(
            [strict_server.uri, other.uri],
            "who",
            [[]],
            partial(ThreadPoolExecutor, 2),
            username="bob",
            server_timeout=None,
        )
        with pytest.raises(AuthenticationError):
            next(results)


def test_a_server_that_does_not_know_the_user(server, strict_server):
    results = run_batch(
        [strict_server.uri, server.uri],
        "square",
        numbers(100),
        partial(ThreadPoolExecutor, 4),
        username="bob",
        shard_size=5,
    )
    assert messages(results) == squares(100)
    assert [status.done for status in results.servers] == [0, 100]
    assert "bob" in results.servers[0].error


@pytest.mark.parametrize("on_error", ["raise", "yield"])
def test_a_server_without_the_program(server, on_error):
    with LocalServer() as lacking:
        results = run_batch(
            [lacking.uri, server.uri],
            "square",
            numbers(100),
            partial(ThreadPoolExecutor, 4),
            shard_size=5,
            on_error=on_error,
        )
        assert messages(results) == squares(100)
        assert [status.done for status in results.servers] == [0, 100]
        assert "map failed" in results.servers[0].error


def test_no_server_has_the_program():
    with LocalServer() as first, LocalServer() as second:
        options = {"executor": partial(ThreadPoolExecutor, 4), "shard_size": 5}
        results = run_batch([first.uri, second.uri], "nosuch", numbers(50), on_error="yield", **options)
        outcomes = list(results)
        assert [type(outcome) for outcome in outcomes] == [LaunchError] * 50
        assert [outcome.input for outcome in outcomes] == list(numbers(50))
        assert [status.per_second for status in results.servers] == [None, None]
        with pytest.raises(LaunchError):
            list(run_batch([first.uri, second.uri], "nosuch", numbers(50), **options))


def test_a_name_without_the_version_that_some_servers_want(server):
    with LocalServer(protocol="0.4") as newer:
        newer.program("square@0.1.0")(lambda context: "16")
        results = run_batch(
            [newer.uri, server.uri],
            "square",
            numbers(40),
            partial(ThreadPoolExecutor, 2),
            shard_size=5,
            on_error="yield",
        )
        assert messages(results) == squares(40)
        assert "NAME@1.2.3" in results.servers[0].error


def test_none_is_left_for_too_long():
    with server_processes(0, 0) as servers:
        results = run_batch(
            [server.uri for server in servers],
            "square",
            numbers(),
            partial(ThreadPoolExecutor, 2),
            username="alice",
            shard_size=5,
            server_timeout=1.5,
        )
        seen = [next(results).message for _ in range(20)]
        for server in servers:
            server.kill()
        with pytest.raises(PieConnectionError, match="no server was there for 1.5 s"):
            for result in results:
                seen.append(result.message)
    assert seen == squares(len(seen))


def test_a_server_that_accepts_and_does_not_answer(server):
    silent = LocalServer()
    silent.start()
    silent.delay(float("inf"))
    try:
        results = run_batch(
            [server.uri, silent.uri],
            "square",
            numbers(100),
            partial(ThreadPoolExecutor, 2),
            shard_size=10,
            client_options={"timeout": 0.5},
        )
        assert messages(results) == squares(100)
        assert [status.done for status in results.servers] == [100, 0]
    finally:
        silent.close()


def test_progress_and_journal(server, tmp_path):
    with LocalServer() as gone:
        uris = [server.uri, gone.uri]
    told = []
    options = {"shard_size": 10, "results": tmp_path / "out.jsonl"}
    inputs = list(numbers(100))
    results = run_batch(uris, "square", inputs, partial(ThreadPoolExecutor, 2), **options)
    assert [next(results).message for _ in range(35)] == squares(35)
    results.close()
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 35
    before = len(server.instances)
    results = run_batch(uris, "square", inputs, partial(ThreadPoolExecutor, 2), progress=told.append, **options)
    assert messages(results) == squares(100)
    assert len(server.instances) - before == 65
    assert (told[-1].done, told[-1].total, told[-1].failed) == (100, 100, 0)
    assert any(progress.unreachable == (gone.uri,) for progress in told)
    with pytest.raises(ValueError, match="has results of program 'square', and this batch has program 'cube'"):
        run_batch(uris, "cube", inputs, ThreadPoolExecutor, **options)


def test_skipping(server):
    results = run_batch(
        server.uri, "reciprocal", numbers(-3, 3), partial(ThreadPoolExecutor, 2), shard_size=2, on_error="skip"
    )
    assert len(list(results)) == 5
    assert results.skipped == 1


def test_closing_terminates_the_instances_of_threads(server):
    begun = threading.Event()

    @server.program("endless")
    def endless(context):
        if context.args[0] != "0":
            begun.set()
            context.receive()

    results = run_batch(server.uri, "endless", numbers(), partial(ThreadPoolExecutor, 1), shard_size=1)
    next(results)
    assert begun.wait(10)
    results.close()
    with PieClient(server.uri) as client:
        client.authenticate("alice")
        assert [info for info in client.list_instances() if info.status != "Finished"] == []


def test_the_servers_may_come_from_a_generator():
    endpoints = endpoints_of((f"ws://{name}" for name in "ab"), "alice", None, None)
    assert [endpoint.uri for endpoint in endpoints] == ["ws://a", "ws://b"]


def test_the_batch_s_options_are_the_default():
    first, second = endpoints_of(
        ["ws://a", Server("ws://b", "bob", "~/b", client_options={"timeout": 5})],
        "alice",
        "agent",
        {"timeout": 9, "reconnect": False},
    )
    assert first == Endpoint(0, "ws://a", "alice", "agent", None, {"timeout": 9, "reconnect": False})
    assert second == Endpoint(1, "ws://b", "bob", "~/b", None, {"timeout": 5, "reconnect": False})


@pytest.mark.parametrize(
    ("servers", "error", "text"),
    [
        ([], ValueError, "^uri must not be an empty list"),
        (5, TypeError, "^uri must be an address, a Server or a list"),
        (b"ws://x", TypeError, "^uri must be an address, a Server or a list"),
        ({"ws://x": 1}, TypeError, "^uri must be an address, a Server or a list"),
        (["http://x"], ValueError, "^uri must look like"),
        ([Server("ws://x", username=5)], TypeError, "username"),
        ([Server("ws://x", key=b"k")], TypeError, "key must be"),
        ([Server("ws://x", token_file=5)], TypeError, "a token does not travel"),
        ([Server("ws://x", client_options=5)], TypeError, "mapping"),
        ([5], TypeError, "^uri must be a str"),
    ],
    ids=str,
)
def test_mistakes(servers, error, text):
    with pytest.raises(error, match=text):
        run_batch(servers, "square", [], ThreadPoolExecutor)
