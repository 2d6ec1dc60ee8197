"""Progress bars on a terminal."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from pie_sync import BatchProgress, PieClient
from pie_sync.cli import _progress
from pie_sync.cli._progress import ProgressMode, batch_progress
from pie_sync.testing import LocalServer, ProgramContext
from tests.programs import HELLO

from .conftest import CommandLine, all_of, end_of, finish


def test_an_upload_shows_its_progress(pie: CommandLine, home: Path, client: PieClient) -> None:
    # A custom section of 20 MiB, which no program needs: its size takes four bytes of seven bits each.
    size = 20 * 1024 * 1024
    leb128 = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21])
    (home / "big[bold].wasm").write_bytes(HELLO + b"\0" + leb128 + b"\x01x" + bytes(size - 2))
    terminal = pie.spawn("upload", "big[bold].wasm")
    shown = all_of(terminal)
    assert re.search(r"Uploading big\[bold\]\.wasm .*\d/21\.0 MB .* MB/s .*\d:\d\d:\d\d", shown)
    program_hash = re.findall(r"\b[0-9a-f]{64}\b", shown)[-1]
    assert client.program_exists(program_hash)
    # The second time there is nothing to upload, and in a pipe there'd be no bar.
    done = pie("upload", "big[bold].wasm")
    assert (done.stdout, done.stderr) == (program_hash + "\n", "")


def test_a_batch_shows_its_progress(pie: CommandLine, home: Path) -> None:
    (home / "in.jsonl").write_text("".join(json.dumps([str(number)]) + "\n" for number in range(50)))
    terminal = pie.spawn("map", "talk", "in.jsonl", "--output", "out.jsonl")
    shown = all_of(terminal)
    assert re.search(r"Running .*\d+/50 .*\d/s", shown)
    assert shown.endswith("[50 done: out.jsonl]\r\n")


def test_failures_in_the_bar(pie: CommandLine, home: Path, server: LocalServer) -> None:
    @server.program("picky")
    def picky(context: ProgramContext) -> None:
        if context.args == ["bad"]:
            raise ValueError("not this one")

    (home / "in.jsonl").write_text('["bad"]\n' * 20)
    terminal = pie.spawn("map", "picky", "in.jsonl", "--output", "out.jsonl")
    terminal.expect("[0-9]+ failed,")
    assert end_of(terminal) == 1


def test_no_bar(pie: CommandLine, home: Path) -> None:
    (home / "in.jsonl").write_text('["a"]\n')
    shown = all_of(pie.spawn("map", "talk", "in.jsonl", "--output", "out.jsonl", "--progress", "never"))
    assert shown == "[1 done: out.jsonl]\r\n"


@pytest.mark.parametrize(("mode", "interval"), [("auto", 10.0), ("always", 1.0)])
def test_lines_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str, interval: float
) -> None:
    now = [0.0]
    monkeypatch.setattr(_progress, "monotonic", lambda: now[0])
    with batch_progress("Running", ProgressMode(mode)) as tell:
        assert tell is not None
        for number in range(1, 26):
            now[0] = number * interval / 10
            tell(BatchProgress(number, number // 10, 4, 100, 2.5, 40.0))
    assert capsys.readouterr().err.splitlines() == [
        "[10 of 100 done, 1 failed, 2.5/s, 40 s left]",
        "[20 of 100 done, 2 failed, 2.5/s, 40 s left]",
    ]


def test_a_line_of_a_batch_whose_size_is_not_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(_progress, "monotonic", lambda: now[0])
    with batch_progress("Running", ProgressMode.auto) as tell:
        assert tell is not None
        now[0] = 60.0
        tell(BatchProgress(7000, 0, 4, None, 1234.25, None))
    assert capsys.readouterr().err == "[7000 done, 1234/s]\n"


def test_lines_of_the_command(pie: CommandLine, home: Path, server: LocalServer) -> None:
    @server.program("slow")
    def slow(context: ProgramContext) -> None:
        time.sleep(0.05)  # the work of a model

    (home / "in.jsonl").write_text('["a"]\n' * 40)
    process = pie.start("map", "slow", "in.jsonl", "-o", "out.jsonl", "--progress", "always", "--concurrency", "1")
    code, stdout, stderr = finish(process)
    assert (code, stdout) == (0, "")
    *told, last = stderr.splitlines()
    assert told
    assert all(re.fullmatch(r"\[\d+ of 40 done, [\d.]+/s(, \d+ s left)?\]", line) for line in told)
    assert last == "[40 done: out.jsonl]"
