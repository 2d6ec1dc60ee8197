"""The pages that need a real server: they run, and print what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import FRONT_PAGES, ON_THE_ENGINE, engine_blocks, unwrapped
from tests.test_docs_site import CODE, PRINTED
from tests.test_documentation import PAGES, name

from . import harness

ENGINE_PAGES = [page for page in PAGES if ON_THE_ENGINE in page.read_text()]


def test_there_are_some():
    assert "docs/guides/functions.md" in map(name, ENGINE_PAGES)


def run(code: str, server: harness.RealServer, folder: Path) -> str:
    """Run code from a file, since a function's source is read from there, and return what it prints."""
    script = folder / "script.py"
    script.write_text(code)
    result = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=harness.REPOSITORY,
        env=dict(os.environ, PIE_URI=server.uri),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.parametrize("page", ENGINE_PAGES, ids=name)
def test_a_page_prints_what_it_says(real_server: harness.RealServer, page: Path, tmp_path: Path):
    _, mark, after = page.read_text().partition(ON_THE_ENGINE)
    text = mark + after  # what a reader saves in a file; nothing before it is needed
    rest = run("\n\n".join(CODE.findall(text)), real_server, tmp_path)
    for printed in PRINTED.findall(text):
        before, found, rest = rest.partition(unwrapped(printed))
        assert found, f"{printed!r} is not in {before!r}"


@pytest.mark.parametrize("page", FRONT_PAGES, ids=name)
def test_each_block_of_a_front_page_runs_alone(real_server: harness.RealServer, page: Path, tmp_path: Path):
    codes = engine_blocks(page.read_text())
    assert codes
    for code in codes:
        assert run(code, real_server, tmp_path)
