"""``map``: batches that are complete, also after they were stopped."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer, ProgramContext
from tests.lost_ends import LostEnds, probe_soon
from tests.programs import HELLO

from .conftest import LIMIT, CommandLine, Counting, RunHere, finish, read, write


@pytest.mark.usefixtures("waiter")
def test_a_batch_that_waits_for_more_input(pie: CommandLine, client: PieClient) -> None:
    process = pie.start("map", "waiter", "-", "--output", "out.jsonl")
    process.stdin.write("[]\n")
    while not client.list_instances():
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT) == 130
    assert process.stderr.read() == "[stopped: 0 done; the same command resumes from there]\n"
    assert client.list_instances() == []


@pytest.fixture(autouse=True)
def _uri(server: LocalServer, monkeypatch: pytest.MonkeyPatch, run_here: RunHere) -> None:
    monkeypatch.setenv("PIE_URI", server.uri)  # after run_here, which has removed it


def test_a_program_in_a_file_and_inputs_from_a_pipe(pie: CommandLine, home: Path) -> None:
    (home / "hello.wasm").write_bytes(HELLO)
    done = pie("map", "hello.wasm", "-", "--output", "out.jsonl", stdin='["\N{PIE}"]\n["b"]\n')
    assert (done.returncode, done.stderr) == (0, "[2 done: out.jsonl]\n")
    assert [item["stdout"] for item in read(home / "out.jsonl")] == ["Hello, \N{PIE}!\n", "Hello, b!\n"]


def test_an_instance_that_fails_does_not_stop_the_others(
    run_here: RunHere, home: Path, server: LocalServer
) -> None:
    @server.program("picky")
    def picky(context: ProgramContext) -> None:
        context.stdout("hm\n")
        if context.args == ["bad"]:
            raise ValueError("not this one")

    write(home / "in.jsonl", ["good"], ["bad"], ["good"])
    result = run_here("map", "picky", "in.jsonl", "--output", "out.jsonl")
    assert (result.code, result.stderr) == (1, "[3 done, 1 failed: out.jsonl]\n")
    _, bad, _ = read(home / "out.jsonl")
    assert (bad["event"], bad["stdout"]) == ("Exception", "hm\n")
    assert bad["message"] == "Runtime error: ValueError: not this one"
    # Whoever asks again gets the same answer.
    again = run_here("map", "picky", "in.jsonl", "--output", "out.jsonl")
    assert again.code == 1
    assert again.stderr == "[resumes after 3 results]\n[3 done, 1 failed: out.jsonl]\n"


def test_retries(run_here: RunHere, home: Path, server: LocalServer) -> None:
    attempts = Counter[str]()

    @server.program("moody")
    def moody(context: ProgramContext) -> str:
        [name] = context.args
        attempts[name] += 1
        if attempts[name] < 3:
            raise ValueError("not yet")
        return "at last"

    write(home / "in.jsonl", ["a"], ["b"])
    assert run_here("map", "moody", "in.jsonl", "--output", "out.jsonl", "--retries", "2").code == 0
    assert [item["message"] for item in read(home / "out.jsonl")] == ["at last", "at last"]


def test_no_more_at_once_than_allowed(run_here: RunHere, home: Path, server: LocalServer) -> None:
    running, most, lock = [0], [0], threading.Lock()

    @server.program("busy")
    def busy(context: ProgramContext) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        context.stdout("working\n")
        with lock:
            running[0] -= 1

    write(home / "in.jsonl", *[[str(number)] for number in range(40)])
    assert run_here("map", "busy", "in.jsonl", "--output", "out.jsonl", "--concurrency", "2").code == 0
    assert 1 <= most[0] <= 2


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_goes_on_where_it_was_stopped(
    pie: CommandLine, home: Path, server: LocalServer, client: PieClient, signum: signal.Signals
) -> None:
    count, free = 30, 12
    program = Counting(server, free)
    write(home / "in.jsonl", *[[str(number)] for number in range(count)])
    arguments = ["map", "counting", "in.jsonl", "--output", "out.jsonl", "--concurrency", "4"]
    process = pie.start(*arguments)
    assert program.stuck.wait(LIMIT)
    process.send_signal(signum)
    returncode, _, stderr = finish(process)
    done = len((home / "out.jsonl").read_text().splitlines())
    if signum == signal.SIGKILL:
        for info in client.list_instances():
            client.terminate_instance(info.id)
        # As if it had been killed while it was writing a line.
        with (home / "out.jsonl").open("a") as file:
            file.write('{"input": ["1')
    else:
        assert returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[signum]
        assert stderr.splitlines()[-1] == f"[stopped: {done} of {count} done; the same command resumes from there]"
        assert client.list_instances() == []

    program.go.set()
    before = +program.completed
    assert pie(*arguments).returncode == 0
    results = read(home / "out.jsonl")
    assert [item["input"] for item in results] == [[str(number)] for number in range(count)]
    assert [item["message"] for item in results] == [str(number) for number in range(count)]
    # What had a result was not run again.
    assert all(program.completed[str(number)] == before[str(number)] == 1 for number in range(done))


def test_a_lost_connection_stops_it(pie: CommandLine, home: Path, server: LocalServer) -> None:
    program = Counting(server, free=0)
    write(home / "in.jsonl", ["0"], ["1"])
    process = pie.start("map", "counting", "in.jsonl", "--output", "out.jsonl")
    assert program.stuck.wait(LIMIT)
    server.drop_connections()
    returncode, _, stderr = finish(process)
    assert returncode == 1
    stopped, error, hint = stderr.splitlines()
    assert stopped == "[stopped: 0 of 2 done; the same command resumes from there]"
    assert error.startswith("error: ")
    assert "`pie-sync ping`" in hint
    program.go.set()
    assert pie("map", "counting", "in.jsonl", "--output", "out.jsonl").returncode == 0


def test_a_program_that_is_not_there_stops_it(run_here: RunHere, home: Path) -> None:
    write(home / "in.jsonl", *[[]] * 100)
    result = run_here("map", "nobody/knows", "in.jsonl", "--output", "out.jsonl")
    assert result.code == 1
    assert "Failed to download inferlet" in result.stderr
    assert (home / "out.jsonl").read_text() == ""


def test_inputs_that_cannot_be_told_to_the_server_stop_it(run_here: RunHere, home: Path) -> None:
    write(home / "in.jsonl", ["fine"], {"nested": {"a": 1}}, ["fine"])
    result = run_here("map", "talk", "in.jsonl", "--output", "out.jsonl")
    assert result.code == 1
    assert "error: args['nested'] is a dict" in result.stderr
    assert len(read(home / "out.jsonl")) == 1


def test_nothing_to_do(run_here: RunHere, home: Path) -> None:
    (home / "in.jsonl").touch()
    assert run_here("map", "talk", "in.jsonl", "-o", "out.jsonl") == (0, "", "[0 done: out.jsonl]\n")


def test_an_instance_that_takes_too_long_is_a_result(run_here: RunHere, home: Path, server: LocalServer) -> None:
    @server.program("slow-or-not")
    def slow_or_not(context: ProgramContext) -> str:
        return context.receive() if context.args == ["slow"] else "done"

    write(home / "in.jsonl", ["quick"], ["slow"], ["quick"])
    result = run_here("map", "slow-or-not", "in.jsonl", "--output", "out.jsonl", "--time-limit", "1.5")
    assert (result.code, result.stderr) == (1, "[3 done, 1 failed: out.jsonl]\n")
    quick, slow, _ = read(home / "out.jsonl")
    assert (quick["event"], quick["message"]) == ("Completed", "done")
    assert slow["event"] is None
    assert "not ended within 1.5 s" in slow["message"]


def test_a_lost_end_is_a_result(
    run_here: RunHere, home: Path, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe_soon(monkeypatch)
    server.program("name")(lambda context: context.args[0])
    lost = LostEnds(monkeypatch, lambda output: output.instance.arguments == ["b"])
    write(home / "in.jsonl", ["a"], ["b"], ["c"])
    assert run_here("map", "name", "in.jsonl", "--output", "out.jsonl").code == 1
    assert [item["event"] for item in read(home / "out.jsonl")] == ["Completed", "ServerError", "Completed"]
    assert lost.count == 1


def test_results_of_another_time_limit(run_here: RunHere, home: Path) -> None:
    write(home / "in.jsonl", ["a"])
    assert run_here("map", "talk", "in.jsonl", "-o", "out.jsonl", "--time-limit", "60").code == 0
    result = run_here("map", "talk", "in.jsonl", "-o", "out.jsonl", "--time-limit", "30")
    assert result.code == 1
    assert "has results of timeout 60.0, and this batch has timeout 30.0" in result.stderr
