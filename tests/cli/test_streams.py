"""Standard streams that are missing, full, or without a reader."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer, ProgramContext

from .conftest import COMMAND, LIMIT, CommandLine, RunHere, finish, read, write

FULL = Path("/dev/full")

needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")


def redirected(pie: CommandLine, redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with redirections and limits of the shell's: ``>&-`` is for no stdout."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *arguments],
        env=pie.environment,
        cwd=pie.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirection", "has_stdout"),
    [("2>&-", True), (">&-", False), ("<&-", True), (">&- 2>&-", False), ("<&- >&- 2>&-", False)],
)
@pytest.mark.parametrize(
    "arguments",
    [["run", "talk", "x"], ["run", "talk", "--send-stdin"], ["ping"], ["list"], ["--version"], ["config", "show"]],
    ids=" ".join,
)
def test_missing_streams(
    pie: CommandLine, client: PieClient, redirection: str, has_stdout: bool, arguments: list[str]
) -> None:
    client.launch_instance_from_registry("echo")  # so that there is a list
    done = redirected(pie, redirection, *arguments)
    assert done.returncode == 0, done.stderr
    assert bool(done.stdout) == has_stdout
    assert "error: " not in done.stderr


def test_results_without_a_stdout_are_an_error(pie: CommandLine) -> None:
    (pie.home / "in.jsonl").write_text('["a"]\n')
    done = redirected(pie, ">&-", "map", "talk", "in.jsonl", "-o", "-")
    assert done.returncode == 1
    assert done.stderr.startswith("error: stdout: Bad file descriptor\n")
    assert "done]" not in done.stderr
    assert redirected(pie, ">&-", "map", "talk", "in.jsonl", "-o", "out.jsonl").returncode == 0


def test_no_socket_takes_the_place_of_a_missing_stream(pie: CommandLine, waiter: object) -> None:
    """C code and child processes write to descriptor 2, whatever that is."""
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *COMMAND, "run", "waiter"],
        env=pie.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.read(11) == "waiting... "
        links = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in (0, 2)]
        process.terminate()
        assert process.wait(LIMIT) == 143
    assert links == [os.devnull, os.devnull]


# Something else has taken the descriptors before the command begins.
TAKEN = """
import os, sys
os.dup2(os.open("taken", os.O_RDWR | os.O_CREAT), 2)
os.environ["PIE_URI"] = sys.argv.pop(1)
from pie_sync.cli import main
main()
"""


def test_a_descriptor_that_is_taken_is_left_alone(pie: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "COMMAND", [sys.executable, "-c", TAKEN])
    done = redirected(pie, "2>&-", pie.environment["PIE_URI"], "run", "talk")
    assert done.returncode == 0
    assert (pie.home / "taken").read_text() == ""


@needs_full
@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["run", "--help"],
        ["ping"],
        ["list"],
        ["list", "--json"],
        ["query", "model_status"],
        ["upload", "hello.wasm"],
        ["config", "show"],
        ["run", "talk"],
        ["run", "--detach", "echo"],
        ["serve", "--port", "0"],
    ],
    ids=" ".join,
)
def test_stdout_is_full(pie: CommandLine, client: PieClient, hello: Path, arguments: list[str]) -> None:
    if arguments[0] == "list":
        client.launch_instance_from_registry("echo")
    before = [info.id for info in client.list_instances()]
    done = redirected(pie, f"> {FULL}", *arguments)
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()[-2:]
    assert error in ("error: stdout: No space left on device", "error: the output: No space left on device")
    assert hint == "hint: make room there, or write to another place"
    assert done.stderr.count("No space") == 1
    assert "Traceback" not in done.stderr
    assert [info.id for info in client.list_instances()] == before


@needs_full
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["list"], 0), (["ping"], 0), (["terminate", "nobody"], 1), (["run", "waiter", "--uri", "ws://["], 1)],
    ids=str,
)
def test_stderr_is_full(pie: CommandLine, arguments: list[str], code: int) -> None:
    assert redirected(pie, f"2> {FULL}", *arguments).returncode == code


@needs_full
def test_stderr_is_full_and_an_instance_writes_there(pie: CommandLine, client: PieClient) -> None:
    done = redirected(pie, f"2> {FULL}", "run", "talk")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "out 1")
    assert client.list_instances() == []


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_of_results_that_can_grow_no_more(run_here: RunHere, home: Path, server: LocalServer) -> None:
    write(home / "in.jsonl", *[[str(number)] for number in range(40)])
    command = ["map", "talk", "in.jsonl", "--output", "out.jsonl", "--uri", server.uri]
    with file_size_limit(2000):
        result = run_here(*command)
    assert result.code == 1
    stopped, error, hint = result.stderr.splitlines()
    assert stopped.endswith(" of 40 done; the same command resumes from there]")
    assert error == "error: out.jsonl: File too large"
    assert hint == "hint: make room there, or write to another place"
    assert run_here(*command).code == 0
    assert [item["input"] for item in read(home / "out.jsonl")] == [[str(number)] for number in range(40)]


def test_other_files_that_find_no_room(run_here: RunHere, home: Path, server: LocalServer) -> None:
    @server.program("painter")
    def painter(context: ProgramContext) -> None:
        context.send_blob(bytes(100_000))

    write(home / "in.jsonl", [])
    path = home / ".pie" / "cli_config.toml"
    with file_size_limit(10):
        for arguments, name in [
            (["run", "painter", "--save-blobs", "blobs"], "blobs"),
            (["map", "painter", "in.jsonl", "--output", "out.jsonl", "--save-blobs", "blobs"], "blobs"),
            (["config", "init", "--no-auth"], str(path)),
        ]:
            result = run_here(*arguments, PIE_URI=server.uri)
            assert (result.code, result.stderr.splitlines()[-2]) == (1, f"error: {name}: File too large")
    assert list(path.parent.iterdir()) == []


def test_a_reader_that_is_gone(pie: CommandLine) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = pie.start("--help", stdout=writer)
    os.close(writer)
    assert finish(process) == (1, None, "")
