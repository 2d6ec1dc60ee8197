"""Runs official clients from PyPI, each in a virtual environment of its own that outlives the test run.

The environments are kept in ``.cache/venvs`` of the repository, or where ``PIE_SYNC_VENV_CACHE`` says.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD_LIMIT = 300.0  # seconds
RUN_LIMIT = 60.0


def official_python(version: str) -> Path:
    """Return the Python interpreter of an environment with ``pie-client==version``, built if necessary."""
    if sys.version_info < (3, 10):
        pytest.skip("pie-client needs Python 3.10")
    cache = Path(os.environ.get("PIE_SYNC_VENV_CACHE") or REPOSITORY / ".cache" / "venvs")
    environment = cache / f"pie-client-{version}"
    # Written last: an environment without the marker is incomplete, one with another content is outdated.
    marker = environment / "complete"
    wanted = f"{sys.version}\n"
    cache.mkdir(parents=True, exist_ok=True)
    with _Lock(cache / f"pie-client-{version}.lock"):
        if not marker.exists() or marker.read_text() != wanted:
            _build(environment, version)
            marker.write_text(wanted)
    return _python(environment)


def run_official(version: str, script: Path, *arguments: str) -> Any:
    """Run a script in the environment of ``version``, and return the JSON that it prints last."""
    finished = subprocess.run(
        [official_python(version), "-I", script, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def _build(environment: Path, version: str) -> None:
    # An environment can't be built elsewhere and moved: its scripts hold its path.
    shutil.rmtree(environment, ignore_errors=True)
    quietly = {"check": True, "capture_output": True, "timeout": BUILD_LIMIT}
    subprocess.run([sys.executable, "-m", "venv", environment], **quietly)
    pip = [_python(environment), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"pie-client=={version}"], **quietly)


def _python(environment: Path) -> Path:
    scripts, suffix = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
    return environment / scripts / f"python{suffix}"


class _Lock:
    """A lock between processes: a file that only one can create. An old file was left by a killed process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        deadline = time.monotonic() + 2 * BUILD_LIMIT
        while True:
            try:
                self._path.touch(exist_ok=False)
                return
            except FileExistsError:
                self._discard_if_old()
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process holds {self._path}")
            time.sleep(0.1)  # no event announces that another process removes a file

    def __exit__(self, *exc_info: object) -> None:
        self._path.unlink(missing_ok=True)

    def _discard_if_old(self) -> None:
        try:
            if time.time() - self._path.stat().st_mtime > 2 * BUILD_LIMIT:
                self._path.unlink()
        except FileNotFoundError:
            pass
