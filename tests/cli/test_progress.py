"""Progress bars on a terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pie_sync import PieClient
from tests.programs import HELLO

from .conftest import CommandLine, all_of


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
    assert re.search(r"Running .*\d+/50 ", shown)
    assert shown.endswith("[50 done: out.jsonl]\r\n")
