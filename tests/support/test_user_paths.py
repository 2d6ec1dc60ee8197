"""Paths that begin with ``~``, also where there is no home directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from pie_sync import PieValueError
from pie_sync._support.user_paths import expand, home


def test_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path
    assert expand(Path("~/a")) == tmp_path / "a"
    assert expand(Path("a/~")) == Path("a/~")


def test_no_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PieValueError, match="^~nobody-has-this-name/a: there is no such home directory") as caught:
        expand(Path("~nobody-has-this-name/a"))
    assert caught.value.hint == "give the whole path, or set HOME"

    def none() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", none)
    assert home() is None
