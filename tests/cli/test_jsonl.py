"""The files of ``map``: inputs, results, and how a run is resumed."""

from __future__ import annotations

import base64
import codecs
from pathlib import Path

import pytest

from pie_sync import ProtocolError
from pie_sync.cli._jsonl import record
from pie_sync.testing import LocalServer

from .conftest import LIMIT, CommandLine, Counting, RunHere, finish, lines, read, write


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
    assert second.stderr.startswith("error: another `pie-sync map` is writing out.jsonl\n")
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


def test_the_record_of_an_answer_that_makes_no_sense() -> None:
    result = record(["a"], ProtocolError("a blob is damaged"), None)
    assert result == {"input": ["a"], "event": None, "message": "a blob is damaged"}
