"""The start of the command: the script, the imports, the extras that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from .conftest import LIMIT, python


def test_the_command_is_installed() -> None:
    points = distribution("pie-sync").entry_points
    [command] = [point for point in points if (point.group, point.name) == ("console_scripts", "pie-sync")]
    assert command.load().__module__ == "_pie_sync_command"


def test_the_library_does_not_import_it() -> None:
    program = "import pie_sync, pie_sync.testing, sys; print([m for m in ('typer', 'rich') if m in sys.modules])"
    assert python(program).stdout == "[]\n"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from pie_sync.cli import main; main()"
    done = python(program)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: the pie-sync command needs {missing}, which is not installed\nhint: pip install 'pie-sync[cli]'\n"
    )


@pytest.mark.parametrize("module", ["websocket", "typer"])  # which the library and the command import
def test_while_the_command_is_being_imported(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-c", "import _pie_sync_command as command; command.main()"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
