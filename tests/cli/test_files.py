"""Paths that begin with ``~``, and text files that are not UTF-8."""

from __future__ import annotations

from pathlib import Path

import pytest

from pie_sync.cli._failures import Failure
from pie_sync.cli._files import read_text

from .conftest import RunHere, lines


@pytest.mark.parametrize(
    "arguments",
    [
        ["ping", "--key", "~nobody-has-this-name/key"],
        ["ping", "--config", "~nobody-has-this-name/config"],
        ["run", "~nobody-has-this-name/x.wasm"],
        ["upload", "~nobody-has-this-name/x.wasm"],
        ["map", "x", "in.jsonl", "--output", "~nobody-has-this-name/out"],
        ["serve", "~nobody-has-this-name"],
        ["serve", "--user", "a=~nobody-has-this-name/x.pub"],
        ["config", "init", "--config", "~nobody-has-this-name/config"],
        ["config", "set", "port", "1", "--config", "~nobody-has-this-name/config"],
    ],
    ids=" ".join,
)
def test_a_home_directory_of_nobody(run_here: RunHere, home: Path, arguments: list[str]) -> None:
    (home / "in.jsonl").touch()
    error, hint = lines(run_here(*arguments))
    assert error.startswith("~nobody-has-this-name")
    assert error.endswith(": there is no such home directory")
    assert hint == "give the whole path, or set HOME"


def test_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbftext")
    assert read_text(path) == "text"
    path.write_bytes(b"\xe4")
    with pytest.raises(Failure, match="file is not UTF-8 text") as caught:
        read_text(path)
    assert caught.value.hint == "save it as UTF-8"
