"""The ``pie-sync`` command and the real server."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from pie_sync import PieClient
from tests.cli.conftest import LIMIT, CommandLine, all_of, end_of, finish

from .harness import RealServer

MANIFEST = """\
[package]
name = "{name}"
version = "1.0.0"

[runtime]
language = "python"
entry = "command"
call = "kwargs"
"""

SOURCE = """\
import sys
from inferlet import session

async def command(mode, **given):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    if mode == "echo":
        session.send("ready")
        while (text := await session.receive()) != "stop":
            session.send(text)
    elif mode == "blob":
        session.send_file(b"a blob")
    elif mode == "fail":
        raise ValueError("no luck")
    return given or None
"""


@pytest.fixture
def pie(real_server: RealServer, tmp_path: Path) -> Iterator[CommandLine]:
    home = tmp_path / "home"
    home.mkdir()
    command = CommandLine(home, real_server.uri)
    yield command
    command.close()


@pytest.fixture
def program(pie: CommandLine) -> str:
    """The name of a program that the command has uploaded."""
    name = f"command-{uuid4().hex}"
    (pie.home / "program.py").write_text(SOURCE)
    (pie.home / "Pie.toml").write_text(MANIFEST.format(name=name))
    assert len(pie.output("upload", "program.py", "--manifest", "Pie.toml").strip()) == 64
    return f"{name}@1.0.0"


def test_ping_and_query(pie: CommandLine) -> None:
    assert pie.output("ping").endswith(" ms, process protocol\n")
    assert json.loads(pie.output("query", "model_status"))
    done = pie("query", "weather")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the server does not answer this query: ")


def test_run(pie: CommandLine, program: str) -> None:
    done = pie("run", program, "--", "--mode", "plain", "--max-tokens", "5")
    assert (done.returncode, done.stderr) == (0, "to stderr\n")
    stdout, result = done.stdout.splitlines()
    assert (stdout, json.loads(result)) == ("to stdout", {"max_tokens": 5})

    assert pie.output("run", program, "--", "--mode", "plain") == "to stdout\n"

    done = pie("run", program, "--", "--mode", "fail")
    assert (done.returncode, done.stdout) == (1, "to stdout\n")
    assert "Exception: " in done.stderr
    assert "no luck" in done.stderr

    done = pie("run", program, "--save-blobs", "blobs", "--", "--mode", "blob")
    [blob] = (pie.home / "blobs").iterdir()
    assert (done.returncode, blob.read_bytes()) == (0, b"a blob")

    stdout = pie.output("run", program, "--send-stdin", "--", "--mode", "echo", stdin="a\nstop\n")
    assert stdout == "to stdout\nready\na\n"


def test_control_c(pie: CommandLine, program: str) -> None:
    terminal = pie.spawn("run", program, "--", "--mode", "echo")
    terminal.expect_exact("ready\r\n")
    listed = [info["program"] for info in json.loads(pie.output("list", "--json"))]
    assert program in listed
    terminal.send("\x03")
    terminal.expect_exact("\r\nAborted")
    assert end_of(terminal) == 130
    assert program not in [info["program"] for info in json.loads(pie.output("list", "--json"))]


def test_an_interruption_without_a_terminal(pie: CommandLine, program: str) -> None:
    process = pie.start("run", program, "--", "--mode", "echo")
    assert process.stdout.readline() == "to stdout\n"
    process.send_signal(signal.SIGINT)
    returncode, _, stderr = finish(process)
    assert returncode == 130
    assert stderr.splitlines()[-1].startswith("Aborted")


def test_detached(pie: CommandLine, program: str) -> None:
    instance_id = pie.output("run", "--detach", program, "--", "--mode", "echo").strip()
    terminal = pie.spawn("list")
    assert instance_id in all_of(terminal)
    # Whatever a program sends while it's detached is lost here, so it is spoken to.
    process = pie.start("attach", instance_id[:13], "--send-stdin")
    process.stdin.write("are you there?\n")
    assert "are you there?\n" in iter(process.stdout.readline, "")
    process.stdin.write("stop\n")
    assert finish(process)[0] == 0

    instance_id = pie.output("run", "--detach", program, "--", "--mode", "echo").strip()
    assert pie("terminate", instance_id).stderr == f"[terminated {instance_id}]\n"
    done = pie("terminate", instance_id)
    assert done.returncode == 1
    assert "`pie-sync list`" in done.stderr


def test_map(pie: CommandLine, program: str) -> None:
    inputs = [{"mode": "plain", "number": number} for number in range(20)]
    inputs[7] = {"mode": "fail"}
    (pie.home / "in.jsonl").write_text("".join(json.dumps(item) + "\n" for item in inputs))
    done = pie("map", program, "in.jsonl", "--output", "out.jsonl")
    assert (done.returncode, done.stderr) == (1, "[20 done, 1 failed: out.jsonl]\n")
    results = [json.loads(line) for line in (pie.home / "out.jsonl").read_text().splitlines()]
    assert [item["input"] for item in results] == inputs
    assert results[7]["event"] == "Exception"
    assert all(json.loads(item["message"]) == {"number": i} for i, item in enumerate(results) if i != 7)


def test_what_the_command_uploads_others_can_run(pie: CommandLine, program: str, real_server: RealServer) -> None:
    with PieClient(real_server.uri) as client:
        client.authenticate("bob")
        completed = client.launch_instance_from_registry(program, {"mode": "plain"}).wait(LIMIT)
    assert completed.stdout == "to stdout\n"
