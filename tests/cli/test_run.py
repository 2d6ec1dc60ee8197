"""``run``, ``attach`` and ``upload`` with pipes, as in a script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pie_sync import PieClient
from pie_sync._functions.script import load_script
from pie_sync.testing import LocalServer, ProgramContext
from tests.scripted import Peer, scripted_server

from .conftest import LIMIT, CommandLine, RunHere, finish, read, write


def test_other_generations(pie: CommandLine) -> None:
    for protocol in ["process", "process-0.5"]:
        with LocalServer(protocol=protocol) as server:

            @server.program("greet@1.0.0")
            def greet(context):
                context.stdout("hi\n")
                return json.dumps(context.input) if context.input else None

            pie.environment["PIE_URI"] = server.uri
            assert pie.output("ping").endswith(" ms, process protocol\n")
            name = "greet" if protocol == "process-0.5" else "greet@1.0.0"
            assert pie.output("run", name, "--", "--name", "Eve", "-n", "3") == 'hi\n{"name": "Eve", "n": 3}\n'
            assert pie.output("run", name) == "hi\n"  # its result is null


def test_an_instance_that_was_to_be_detached_is_not_left_without_its_id(lonely_pie: CommandLine) -> None:
    launched, interrupted = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.authenticate()
        request = peer.receive()
        launched.set()
        assert interrupted.wait(LIMIT)
        peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message="the-id")
        request = peer.receive()
        assert (request["type"], request["instance_id"]) == ("terminate_instance", "the-id")
        peer.respond(request)

    with scripted_server(script) as uri:
        process = lonely_pie.start("run", "--detach", "anything", "--uri", uri)
        assert launched.wait(LIMIT)
        process.send_signal(signal.SIGINT)
        assert_is_held(process)
        interrupted.set()
        assert finish(process) == (130, "", "")


def assert_is_held(process: subprocess.Popen[str]) -> None:
    """Wait until a process has handled a signal, and see that it goes on."""
    pending = 1 << (signal.SIGINT - 1)
    while int(status_of(process)["ShdPnd"], 16) & pending:
        os.sched_yield()
    assert process.poll() is None


def status_of(process: subprocess.Popen[str]) -> dict[str, str]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines)


def test_options_behind_the_dashes_are_the_programs(pie: CommandLine) -> None:
    assert pie.output("run", "talk", "--", "--uri", "-d", "x").endswith("\n--uri -d x\n")


def test_an_option_without_the_dashes_is_told_where_it_belongs(run_here: RunHere) -> None:
    result = run_here("run", "talk", "--prompt", "x")
    assert result.code == 2
    assert "No such option: --prompt" in result.stderr
    assert "go after --" in result.stderr


def test_a_program_that_fails(pie: CommandLine) -> None:
    done = pie("run", "fail")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Exception: Runtime error: RuntimeError: the oven is cold\n"


def test_detach_and_attach(pie: CommandLine, client: PieClient) -> None:
    instance_id = pie.output("run", "--detach", "echo").strip()
    assert [info.id for info in client.list_instances()] == [instance_id]
    stdout = pie.output("attach", instance_id[:6].upper(), "--send-stdin", stdin="hi\nstop\n")
    assert stdout == "hi\nstopped\n"
    assert client.list_instances() == []


def test_what_a_detached_instance_printed_is_kept(pie: CommandLine) -> None:
    instance_id = pie.output("run", "--detach", "talk", "x").strip()
    assert pie.output("attach", instance_id) == "out 1\nout 2\nx\n"
    done = pie("attach", instance_id)
    assert (done.returncode, done.stdout) == (1, "")
    assert "hint: has it ended? `pie-sync list`" in done.stderr


def test_detaching_does_not_stay_for_stdin(run_here: RunHere) -> None:
    result = run_here("run", "--detach", "--send-stdin", "echo")
    assert result.code == 1
    assert "pie-sync attach" in result.stderr


def test_bytes_that_are_no_program(pie: CommandLine, home: Path) -> None:
    (home / "letter.wasm").write_text("Dear sir")
    done = pie("run", "letter.wasm")
    assert done.returncode == 1
    assert "letter.wasm is no WebAssembly" in done.stderr.splitlines()[0]


def test_upload_with_a_manifest(pie: CommandLine, hello: Path, home: Path) -> None:
    (home / "Pie.toml").write_text('[package]\nname = "tests/hello"\nversion = "1.2.0"\n')
    done = pie("upload", hello, "--manifest", "Pie.toml")
    assert done.stderr == "[uploaded hello.wasm]\n"
    assert pie.output("run", done.stdout.strip(), "you") == "Hello, you!\n"


SCRIPT = """
import nothing_of_that_name
from pie_sync import inferlet

@inferlet
def complete(prompt: str, times: int = 1) -> str:
    return prompt * times

def other(a): pass
"""


@pytest.fixture
def function_server(home: Path, monkeypatch: pytest.MonkeyPatch, run_here: RunHere) -> Iterator[LocalServer]:
    """A server that has the function of a script: a Python program stands in for it."""
    (home / "script.py").write_text(SCRIPT)
    program = load_script(home / "script.py").program
    with LocalServer(protocol="process-0.5") as server:

        @server.program(program)
        def complete(context: ProgramContext) -> str:
            given = json.loads(context.args[0])
            return str(given["prompt"] * given.get("times", 1))

        monkeypatch.setenv("PIE_URI", server.uri)
        yield server


@pytest.mark.usefixtures("function_server")
def test_a_function_of_a_script(run_here: RunHere, home: Path) -> None:
    for program in ("script.py:complete", "script.py", str(home / "script.py")):
        result = run_here("run", program, "--", "--prompt", "5", "--times", "2")
        assert (result.code, result.stdout, result.stderr) == (0, "55\n", "")
    result = run_here("run", "script.py:complete", "--", "--promt", "5")
    assert result.code == 1
    assert "complete() has no parameter 'promt'" in result.stderr


@pytest.mark.usefixtures("function_server")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("script.py:nothing", "defines no function 'nothing' (it has complete, other)"),
        ("missing.py:complete", "there is no file missing.py"),
        ("~no-such-user/x.py", "there is no such home directory"),
    ],
)
def test_a_function_that_is_not_there(run_here: RunHere, program: str, reason: str) -> None:
    result = run_here("run", program)
    assert result.code == 1
    assert reason in result.stderr


@pytest.mark.usefixtures("function_server")
def test_a_function_that_is_uploaded(run_here: RunHere) -> None:
    result = run_here("run", "script.py:other", "--", "--a", "1")
    assert result.code == 1
    first, second = result.stderr.splitlines()[:2]
    assert first == "[uploading other: a fresh server takes half a minute for its first Python program]"
    assert "no python language component" in second  # LocalServer has none


def test_a_server_that_runs_no_functions(run_here: RunHere, server: LocalServer, home: Path) -> None:
    (home / "script.py").write_text(SCRIPT)
    result = run_here("run", "script.py", "--", "--prompt", "x", PIE_URI=server.uri)
    assert result.code == 1
    assert "Python functions run on Pie 0.5" in result.stderr


@pytest.mark.usefixtures("function_server")
def test_a_batch_of_a_function(run_here: RunHere, home: Path) -> None:
    write(home / "in.jsonl", {"prompt": "a"}, ["--prompt", "5", "--times", "2"])
    result = run_here("map", "script.py:complete", "in.jsonl", "-o", "out.jsonl")
    assert (result.code, result.stderr) == (0, "[2 done: out.jsonl]\n")
    assert [(line["input"], line["message"]) for line in read(home / "out.jsonl")] == [
        ({"prompt": "a"}, "a"),
        (["--prompt", "5", "--times", "2"], "55"),
    ]
    write(home / "in.jsonl", {"prompt": "a"}, {"prompt": 5})
    result = run_here("map", "script.py:complete", "in.jsonl", "-o", "other.jsonl")
    assert result.code == 1
    assert "in.jsonl, input 2: complete(): 'prompt' must be a string" in result.stderr
    assert not (home / "other.jsonl").exists()  # no input has run
