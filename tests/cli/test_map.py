"""``map``: batches that are whole, also after they were stopped."""

from __future__ import annotations

import base64
import json
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer, ProgramContext
from tests.programs import HELLO

from .conftest import LIMIT, CommandLine, RunHere, finish


def write(path: Path, *inputs: Any) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in inputs))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(autouse=True)
def _uri(server: LocalServer, monkeypatch: pytest.MonkeyPatch, run_here: RunHere) -> None:
    monkeypatch.setenv("PIE_URI", server.uri)  # after run_here, which has removed it


class Counting:
    """A program that counts how often it runs with which argument; beyond ``free`` runs it waits for ``go``."""

    def __init__(self, server: LocalServer, free: int) -> None:
        self.completed: Counter[str] = Counter()
        self.go = threading.Event()
        self.stuck = threading.Event()
        self._free = threading.Semaphore(free)
        server.program("counting")(self)

    def __call__(self, context: ProgramContext) -> str:
        if not self.go.is_set() and not self._free.acquire(blocking=False):
            self.stuck.set()
            while not self.go.is_set():
                try:
                    context.receive(timeout=0.05)  # notices when it's terminated
                except TimeoutError:
                    pass
        self.completed[context.args[0]] += 1
        return context.args[0]


def test_inputs_of_every_kind(run_here: RunHere, home: Path) -> None:
    (home / "in.jsonl").write_text('["a", "b"]\n\n{"max_tokens": 5}\r\n"one argument"\n[]')
    result = run_here("map", "talk", "in.jsonl", "--output", "out.jsonl")
    assert result == (0, "", "[4 done: out.jsonl]\n")
    first, *others = read(home / "out.jsonl")
    assert first == {
        "input": ["a", "b"],
        "event": "Completed",
        "message": "a b",
        "stdout": "out 1\nout 2\n",
        "stderr": "err 1\n",
        "messages": ["message 1", "message 2"],
        "blobs": [{"name": None, "base64": base64.b64encode(b"blob 1").decode()}],
    }
    assert [(item["input"], item["message"]) for item in others] == [
        ({"max_tokens": 5}, "--max-tokens 5"),
        (["one argument"], "one argument"),
        ([], ""),
    ]


def test_a_program_in_a_file_and_inputs_from_a_pipe(pie: CommandLine, home: Path) -> None:
    (home / "hello.wasm").write_bytes(HELLO)
    done = pie("map", "hello.wasm", "-", "--output", "out.jsonl", stdin='["\N{PIE}"]\n["b"]\n')
    assert (done.returncode, done.stderr) == (0, "[2 done: out.jsonl]\n")
    assert [item["stdout"] for item in read(home / "out.jsonl")] == ["Hello, \N{PIE}!\n", "Hello, b!\n"]


def test_blobs_are_saved(run_here: RunHere, home: Path) -> None:
    write(home / "in.jsonl", [], [])
    assert run_here("map", "talk", "in.jsonl", "-o", "out.jsonl", "--save-blobs", "blobs").code == 0
    paths = [home / item["blobs"][0]["path"] for item in read(home / "out.jsonl")]
    assert len(set(paths)) == 2
    assert [path.read_bytes() for path in paths] == [b"blob 1", b"blob 1"]


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
    assert (bad["event"], bad["message"], bad["stdout"]) == ("Exception", "ValueError: not this one", "hm\n")
    # Whoever asks again gets the same answer.
    again = run_here("map", "picky", "in.jsonl", "--output", "out.jsonl")
    assert again.code == 1
    assert again.stderr == "[goes on after 3 that have a result]\n[3 done, 1 failed: out.jsonl]\n"


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
        assert stderr.splitlines()[-1] == f"[stopped: {done} of {count} done; the same command goes on from there]"
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
    stopped, error, cure = stderr.splitlines()
    assert stopped == "[stopped: 0 of 2 done; the same command goes on from there]"
    assert error.startswith("error: ")
    assert "`pie-sync ping`" in cure
    program.go.set()
    assert pie("map", "counting", "in.jsonl", "--output", "out.jsonl").returncode == 0


def test_a_program_that_is_not_there_stops_it(run_here: RunHere, home: Path) -> None:
    write(home / "in.jsonl", *[[]] * 100)
    result = run_here("map", "nobody/knows", "in.jsonl", "--output", "out.jsonl")
    assert result.code == 1
    assert "Program not found" in result.stderr
    assert (home / "out.jsonl").read_text() == ""


def test_inputs_that_cannot_be_told_to_the_server_stop_it(run_here: RunHere, home: Path) -> None:
    write(home / "in.jsonl", ["fine"], {"nested": {"a": 1}}, ["fine"])
    result = run_here("map", "talk", "in.jsonl", "--output", "out.jsonl")
    assert result.code == 1
    assert "error: args['nested'] is a dict" in result.stderr
    assert len(read(home / "out.jsonl")) == 1


@pytest.mark.parametrize("line", ["{", "5", '["a", 5]', "null", "\xff"])
def test_a_line_that_is_no_input_is_found_before_anything_runs(run_here: RunHere, home: Path, line: str) -> None:
    (home / "in.jsonl").write_bytes(b'["fine"]\n' + line.encode("latin-1"))
    result = run_here("map", "talk", "in.jsonl", "--output", "out.jsonl")
    assert result.code == 1
    assert result.stderr.startswith("error: in.jsonl, line 2 is n")
    assert not (home / "out.jsonl").exists()


@pytest.mark.parametrize(
    "content",
    [
        '{"input": ["other"], "event": "Completed"}\n',
        '{"input": ["a"], "event": "Completed"}\n{"input": ["b"], "event": "Completed"}\n',
        '{"precious": 1}\n',
        "no JSON\n",
        "[]\n",
        "no line end",
    ],
)
def test_results_of_something_else_are_not_touched(run_here: RunHere, home: Path, content: str) -> None:
    write(home / "in.jsonl", ["a"])
    (home / "out.jsonl").write_text(content)
    result = run_here("map", "talk", "in.jsonl", "--output", "out.jsonl")
    assert result.code == 1
    assert "is not the result of the input there" in result.stderr
    assert (home / "out.jsonl").read_text() == content


def test_inputs_are_not_overwritten(run_here: RunHere, home: Path) -> None:
    (home / "in.jsonl").write_text('["a"]')
    result = run_here("map", "talk", "in.jsonl", "--output", home / "in.jsonl")
    assert result.code == 1
    assert (home / "in.jsonl").read_text() == '["a"]'


def test_two_at_once_do_not_write_one_file(pie: CommandLine, home: Path, server: LocalServer) -> None:
    program = Counting(server, free=0)
    write(home / "in.jsonl", ["0"])
    arguments = ["map", "counting", "in.jsonl", "--output", "out.jsonl"]
    first = pie.start(*arguments)
    assert program.stuck.wait(LIMIT)
    second = pie(*arguments)
    assert second.returncode == 1
    assert second.stderr.startswith("error: another `pie-sync map` is writing out.jsonl\n")
    program.go.set()
    assert finish(first)[0] == 0


def test_nothing_to_do(run_here: RunHere, home: Path) -> None:
    (home / "in.jsonl").touch()
    assert run_here("map", "talk", "in.jsonl", "-o", "out.jsonl") == (0, "", "[0 done: out.jsonl]\n")
