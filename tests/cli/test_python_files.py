"""Which Python files can be served, and what becomes of the others."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from pie_sync.cli._failures import Failure
from pie_sync.cli._python_files import PythonFileError, check_is_for_engine, has_main, load_main


@pytest.mark.parametrize(
    ("text", "served"),
    [
        ("def main(context): pass", True),
        ("def main(context, loud=False, *, more=1): pass", True),
        ("def main(*, context): pass", False),
        ("def main(): pass", False),
        ("def main(a, b): pass", False),
        ("async def main(context): pass", False),
        ("class A:\n def main(self): pass", False),
        ("x = 1", False),
        ("", False),
    ],
)
def test_what_counts_as_a_program(tmp_path: Path, text: str, served: bool) -> None:
    path = tmp_path / "file.py"
    path.write_text(text)
    assert has_main(path) == served
    if served:
        assert load_main(path).__name__ == "main"
    else:
        with pytest.raises(PythonFileError, match="no function main"):
            load_main(path)


@pytest.mark.parametrize("text", ["raise SystemExit(3)", "import no_such_module", "1/0", "def", "\0"])
def test_a_file_that_fails(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.py"
    path.write_text(f"def main(context): pass\n{text}\n")
    with pytest.raises(PythonFileError, match="^[A-Za-z]+Error|^SystemExit"):
        load_main(path)


def test_a_file_named_like_a_module_of_python(tmp_path: Path) -> None:
    import json

    path = tmp_path / "json.py"
    path.write_text("def main(context): return 'mine'")
    assert load_main(path)(None) == "mine"
    import json as again

    assert again is json


@pytest.mark.parametrize(
    ("text", "function", "is_for_engine"),
    [
        ("def main(context): pass", None, False),
        ("def main(context): pass", "main", True),
        ("def main(c: testing.ProgramContext): pass", "main", False),
        ("def main(c: 'ProgramContext'): pass", None, False),
        ("def main(context: str): pass", None, True),
        ("def main(prompt): pass", None, True),
        ("@inferlet\ndef main(context): pass", None, True),
        ("async def main(context): pass", None, True),
        ("def main(context): pass\ndef f(): pass", "f", True),
        ("def main(", None, True),
    ],
)
def test_what_is_for_the_engine(tmp_path: Path, text: str, function: str | None, is_for_engine: bool) -> None:
    (tmp_path / "file.py").write_text(text)
    with contextlib.ExitStack() as stack:
        if not is_for_engine:
            stack.enter_context(pytest.raises(Failure, match="is a program for `pie-sync serve`"))
        check_is_for_engine(tmp_path / "file.py", function)
