"""The files of ``map``: inputs, results, and how a run is resumed."""

from __future__ import annotations

import base64
import codecs
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer, ProgramContext

from .conftest import COMMAND, LIMIT, CommandLine, Counting, RunHere, finish, lines, read, write


@pytest.fixture(autouse=True)
def _uri(server: LocalServer, monkeypatch: pytest.MonkeyPatch, run_here: RunHere) -> None:
    monkeypatch.setenv("PIE_URI", server.uri)  # after run_here, which has removed it


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
        "batch": {"program": "talk", "retries": 0, "on_error": "yield"},
    }
    assert [(item["input"], item["message"]) for item in others] == [
        ({"max_tokens": 5}, "--max-tokens 5"),
        (["one argument"], "one argument"),
        ([], ""),
    ]


def test_blobs_are_saved(run_here: RunHere, home: Path) -> None:
    write(home / "in.jsonl", [], [])
    assert run_here("map", "talk", "in.jsonl", "-o", "out.jsonl", "--save-blobs", "blobs").code == 0
    paths = [home / item["blobs"][0]["path"] for item in read(home / "out.jsonl")]
    assert len(set(paths)) == 2
    assert [path.read_bytes() for path in paths] == [b"blob 1", b"blob 1"]


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
    assert second.stderr.startswith("error: another batch is writing out.jsonl\n")
    program.go.set()
    assert finish(first)[0] == 0


@pytest.mark.parametrize("content", [b'["a"]\n', b'\n["a"]\n', b'"a"'], ids=str)
def test_a_byte_order_mark(run_here: RunHere, home: Path, content: bytes) -> None:
    (home / "in.jsonl").write_bytes(codecs.BOM_UTF8 + content)
    for report in ["[1 done: out.jsonl]\n", "[resumes after 1 results]\n[1 done: out.jsonl]\n"]:
        assert run_here("map", "talk", "in.jsonl", "-o", "out.jsonl") == (0, "", report)
    assert [item["input"] for item in read(home / "out.jsonl")] == [["a"]]


def test_other_encodings(run_here: RunHere, home: Path) -> None:
    for encoding, reason in [("utf-16", "line 1 is UTF-16 text"), ("latin-1", "line 2 is not UTF-8 text")]:
        (home / "in.jsonl").write_bytes('["a"]\n["ö"]\n'.encode(encoding))
        error, hint = lines(run_here("map", "talk", "in.jsonl", "-o", "out.jsonl"))
        assert error.startswith(f"in.jsonl, {reason}")
        assert hint == "save it as UTF-8"


def test_results_on_stdout(run_here: RunHere, home: Path) -> None:
    write(home / "in.jsonl", ["a"], ["b"])
    result = run_here("map", "talk", "in.jsonl", "-o", "-")
    assert (result.code, result.stderr) == (0, "[2 done]\n")
    assert [json.loads(line)["message"] for line in result.stdout.splitlines()] == ["a", "b"]
    assert not (home / "-").exists()


def test_a_finished_file_of_another_program_or_option(run_here: RunHere, home: Path) -> None:
    write(home / "in.jsonl", ["a"], ["b"])
    assert run_here("map", "talk", "in.jsonl", "-o", "out.jsonl").code == 0
    content = (home / "out.jsonl").read_bytes()
    for arguments, text in [
        (["nosuchprogram"], "out.jsonl has results of program 'talk', and this batch has program 'nosuchprogram'"),
        (["talk", "--time-limit", "3"], "out.jsonl has results of timeout None, and this batch has timeout 3.0"),
        (
            ["talk", "--save-blobs", "b"],
            "out.jsonl has results of save_blobs None, and this batch has save_blobs 'b'",
        ),
    ]:
        program, *options = arguments
        error, hint = lines(run_here("map", program, "in.jsonl", "-o", "out.jsonl", *options))
        assert error == text
        assert hint == "--restart begins anew, --output FILE writes to another file"
        assert (home / "out.jsonl").read_bytes() == content


def test_a_program_in_a_file_is_known_by_its_hash(run_here: RunHere, home: Path, hello: Path) -> None:
    write(home / "in.jsonl", ["a"])
    assert run_here("map", "./hello.wasm", "in.jsonl", "-o", "out.jsonl").code == 0
    hello.rename(home / "same.wasm")
    assert run_here("map", "./same.wasm", "in.jsonl", "-o", "out.jsonl").code == 0
    with (home / "same.wasm").open("ab") as file:
        file.write(b"\0\x02\x01x")
    error, _ = lines(run_here("map", "./same.wasm", "in.jsonl", "-o", "out.jsonl"))
    assert error.startswith("out.jsonl has results of program")
    error, _ = lines(run_here("map", "./gone.wasm", "in.jsonl", "-o", "out.jsonl"))
    assert error == "there is no file gone.wasm"


def test_restart(run_here: RunHere, home: Path) -> None:
    write(home / "in.jsonl", ["a"], ["b"])
    assert run_here("map", "talk", "in.jsonl", "-o", "out.jsonl").code == 0
    result = run_here("map", "talk", "in.jsonl", "-o", "out.jsonl", "--retries", "1", "--restart")
    assert result == (0, "", "[2 done: out.jsonl]\n")
    assert read(home / "out.jsonl")[0]["batch"]["retries"] == 1
    (home / "letter.txt").write_text("precious\n")
    result = run_here("map", "talk", "in.jsonl", "-o", "letter.txt", "--restart")
    assert result.code == 1
    assert (home / "letter.txt").read_text() == "precious\n"


def test_other_retries(run_here: RunHere, home: Path, server: LocalServer) -> None:
    @server.program("picky")
    def picky(context: ProgramContext) -> None:
        if context.args == ["bad"]:
            raise ValueError("not this one")

    write(home / "in.jsonl", ["a"], ["b"])
    assert run_here("map", "picky", "in.jsonl", "-o", "out.jsonl").code == 0
    write(home / "in.jsonl", ["a"], ["b"], ["bad"])
    result = run_here("map", "picky", "in.jsonl", "-o", "out.jsonl", "--retries", "1")
    assert (result.code, len(read(home / "out.jsonl"))) == (1, 3)
    error, hint = lines(run_here("map", "picky", "in.jsonl", "-o", "out.jsonl", "--retries", "2"))
    assert error == "out.jsonl, line 3 is a failure with retries 1, and this batch has retries 2"
    assert hint == "--restart begins anew, --output FILE writes to another file"


def test_restart_keeps_the_results_until_there_is_a_new_one(run_here: RunHere, home: Path) -> None:
    write(home / "in.jsonl", ["a"], ["b"])
    assert run_here("map", "talk", "in.jsonl", "-o", "out.jsonl").code == 0
    content = (home / "out.jsonl").read_bytes()
    command = ["map", "nosuchprogram", "in.jsonl", "-o", "out.jsonl", "--restart"]
    result = run_here(*command, PIE_URI="ws://127.0.0.1:1")
    assert result.code == 1
    assert "error: " in result.stderr
    result = run_here(*command)
    assert result.code == 1
    assert "[stopped: 0 of 2 done; the output is as it was]" in result.stderr
    assert (home / "out.jsonl").read_bytes() == content
    write(home / "in.jsonl")
    assert run_here(*command) == (0, "", "[0 done: out.jsonl]\n")
    assert (home / "out.jsonl").read_bytes() == b""


def test_a_restarted_batch_that_is_stopped(pie: CommandLine, home: Path, server: LocalServer) -> None:
    program = Counting(server, free=3)
    write(home / "in.jsonl", *[[str(number)] for number in range(6)])
    (home / "out.jsonl").write_text('{"input": ["0"], "event": "Completed", "batch": {}}\n' * 9)
    process = pie.start("map", "counting", "in.jsonl", "-o", "out.jsonl", "--concurrency", "1", "--restart")
    assert program.stuck.wait(LIMIT)
    process.send_signal(signal.SIGINT)
    returncode, _, stderr = finish(process)
    done = len(read(home / "out.jsonl"))
    assert (returncode, done) == (130, 3)
    assert stderr.endswith(f"[stopped: {done} of 6 done; the same command without --restart resumes from there]\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_results_to_a_named_pipe(pie: CommandLine, home: Path) -> None:
    os.mkfifo(home / "pipe")
    write(home / "in.jsonl", ["a"], ["b"])
    process = pie.start("map", "talk", "in.jsonl", "-o", "pipe")
    with (home / "pipe").open() as pipe:  # waits for the command, as that does for its reader
        inputs = [json.loads(line)["input"] for line in pipe]
    returncode, _, stderr = finish(process)
    assert (returncode, stderr.splitlines()[-1]) == (0, "[2 done: pipe]")
    assert inputs == [["a"], ["b"]]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_that_nobody_reads_can_be_given_up(pie: CommandLine, home: Path) -> None:
    os.mkfifo(home / "pipe")
    write(home / "in.jsonl", ["a"])
    process = pie.start("map", "talk", "in.jsonl", "-o", "pipe")
    assert process.stderr.readline() == "[waits until somebody reads pipe]\n"
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130


def test_results_to_a_process_of_the_shell(pie: CommandLine, home: Path) -> None:
    write(home / "in.jsonl", ["a"], ["b"])
    script = 'exec 3>&1; "$@" -o /dev/fd/3 | cat'
    done = subprocess.run(
        ["sh", "-c", f"{script}", "sh", *COMMAND, "map", "talk", "in.jsonl"],
        env=pie.environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    assert [json.loads(line)["input"] for line in done.stdout.splitlines()] == [["a"], ["b"]]
    assert done.stderr == "[2 done: /dev/fd/3]\n"


def test_the_library_goes_on_behind_the_command(run_here: RunHere, home: Path, client: PieClient) -> None:
    write(home / "in.jsonl", ["a"], ["b"])
    assert run_here("map", "talk", "in.jsonl", "-o", "out.jsonl").code == 0
    results = client.map("talk", [["a"], ["b"], ["c"]], results=home / "out.jsonl", on_error="yield")
    assert [result.message for result in results] == ["a", "b", "c"]
    assert [line["message"] for line in read(home / "out.jsonl")] == ["a", "b", "c"]
