"""The pages that need a real server: they run, and print what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ON_THE_ENGINE, unwrapped
from tests.test_docs_site import CODE, PRINTED
from tests.test_documentation import PAGES, name

from . import harness

ENGINE_PAGES = [page for page in PAGES if ON_THE_ENGINE in page.read_text()]


def test_there_are_some():
    assert "docs/guides/functions.md" in map(name, ENGINE_PAGES)


@pytest.mark.parametrize("page", ENGINE_PAGES, ids=name)
def test_a_page_prints_what_it_says(real_server: harness.RealServer, page: Path, tmp_path: Path):
    text = page.read_text()
    # From a file, as a reader's script: a function's source is read from there.
    script = tmp_path / "script.py"
    script.write_text("\n\n".join(CODE.findall(text)))
    result = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=harness.REPOSITORY,
        env=dict(os.environ, PIE_URI=real_server.uri),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    rest = result.stdout
    for printed in PRINTED.findall(text):
        before, found, rest = rest.partition(unwrapped(printed))
        assert found, f"{printed!r} is not in {before!r}"
