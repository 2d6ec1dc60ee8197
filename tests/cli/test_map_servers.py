"""``map`` over several servers: one is killed, and the batch goes on."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer, ProgramContext
from tests.batch.servers import server_processes
from tests.programs import HELLO

from .conftest import LIMIT, CommandLine, RunHere, finish, lines, read, write

COUNT = 10_000


def test_ten_thousand_lines_through_two_servers_one_of_which_is_killed(
    lonely_pie: CommandLine, home: Path
) -> None:
    write(home / "in.jsonl", *[[str(number)] for number in range(COUNT)])
    with server_processes(0, 0) as (first, second):
        process = lonely_pie.start(
            *("map", "--uri", first.uri, "--uri", second.uri, "square", "in.jsonl", "-o", "out.jsonl")
        )
        deadline = time.monotonic() + LIMIT
        while not (home / "out.jsonl").exists() or (home / "out.jsonl").read_bytes().count(b"\n") < COUNT // 10:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)  # no event announces a line in a file
        second.kill()
        _, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    results = read(home / "out.jsonl")
    assert [line["input"] for line in results] == [[str(number)] for number in range(COUNT)]
    assert [line["message"] for line in results] == [str(number**2) for number in range(COUNT)]
    assert f"[{second.uri} is not there, its shards go to the other servers; next attempt in 0.5 s: " in stderr
    assert stderr.splitlines()[-1] == f"[{COUNT} done: out.jsonl]"


@pytest.fixture
def two(server: LocalServer):
    with LocalServer() as other:
        yield ("--uri", server.uri, "--uri", other.uri), (server, other)


def test_a_program_in_a_file(run_here: RunHere, home: Path, two) -> None:
    uris, servers = two
    (home / "hello.wasm").write_bytes(HELLO)
    write(home / "in.jsonl", *[[str(number)] for number in range(100)])
    assert run_here("map", *uris, "hello.wasm", "in.jsonl", "-o", "out.jsonl", "--concurrency", "2").code == 0
    assert [line["stdout"] for line in read(home / "out.jsonl")] == [f"Hello, {n}!\n" for n in range(100)]
    assert all(server.instances for server in servers)


def test_one_is_not_there(run_here: RunHere, home: Path, server: LocalServer) -> None:
    with LocalServer() as gone:
        uri = gone.uri
    write(home / "in.jsonl", ["a"], ["b"])
    result = run_here("map", "--uri", uri, "--uri", server.uri, "talk", "in.jsonl", "-o", "-")
    assert result.code == 0
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr.count(f"[{uri} is not there") == 1


def test_none_is_there(run_here: RunHere, home: Path) -> None:
    with LocalServer() as a, LocalServer() as b:
        uris = ["--uri", a.uri, "--uri", b.uri]
    write(home / "in.jsonl", ["a"])
    result = run_here("map", *uris, "talk", "in.jsonl", "-o", "out.jsonl")
    assert result.code == 1
    assert result.stderr.splitlines()[-2:] == [
        "error: none of the servers is there",
        "hint: are they right (--uri)?",
    ]


def test_a_key_for_both(run_here: RunHere, home: Path, guarded: str, key_file: Path) -> None:
    write(home / "in.jsonl", ["a"])
    arguments = ["map", "--uri", guarded, "--uri", guarded, "nobody", "in.jsonl", "-o", "out.jsonl"]
    result = run_here(*arguments, "--key", key_file)
    assert "Failed to download inferlet from registry" in result.stderr
    error, _ = lines(run_here(*arguments))
    assert "there is no private key" in error


def test_ctrl_c_terminates_what_runs(pie: CommandLine, home: Path, two) -> None:
    uris, servers = two
    running = threading.Semaphore(0)
    for server in servers:

        @server.program("endless")
        def endless(context: ProgramContext) -> None:
            running.release()
            context.receive()

    write(home / "in.jsonl", *[["x"]] * 50)
    process = pie.start("map", *uris, "endless", "in.jsonl", "-o", "out.jsonl", "--concurrency", "2")
    for _ in range(4):
        assert running.acquire(timeout=LIMIT)
    process.send_signal(signal.SIGINT)
    code, _, stderr = finish(process)
    assert code == 130
    assert stderr.splitlines()[-1] == "[stopped: 0 of 50 done; the same command resumes from there]"
    for server in servers:
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            assert [info for info in client.list_instances() if info.status != "Finished"] == []


def test_a_time_limit_on_each_server(run_here: RunHere, home: Path, two) -> None:
    uris, servers = two
    for server in servers:

        @server.program("slow-or-not")
        def slow_or_not(context: ProgramContext) -> str:
            return context.receive() if context.args == ["slow"] else "done"

    write(home / "in.jsonl", ["quick"], ["slow"], ["quick"])
    result = run_here("map", *uris, "slow-or-not", "in.jsonl", "-o", "out.jsonl", "--time-limit", "1.5")
    assert result.code == 1
    assert [line["message"] for line in read(home / "out.jsonl") if line["event"]] == ["done", "done"]
    assert "not ended within 1.5 s" in read(home / "out.jsonl")[1]["message"]
