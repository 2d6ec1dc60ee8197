"""Runs the clients: each measurement in a fresh process, all clients alternately, several rounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = Path(__file__).resolve().parent / "clients"
LIMIT = 300.0  # seconds, for one measurement


@contextmanager
def load_source() -> Iterator[str]:
    """Run the load source in a process of its own; yield its URI."""
    command = [sys.executable, "-m", "benchmarks.source"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise SystemExit("the load source did not start")
            yield f"ws://127.0.0.1:{port}"
        finally:
            process.stdin.close()


class Bench:
    """Runs single measurements.

    Args:
        uri: the URI of the load source.
        official_python: the interpreter that has pie-client.
        rounds: how often each measurement is repeated.
    """

    def __init__(self, uri: str, official_python: Path, rounds: int) -> None:
        self._uri = uri
        self._official_python = official_python
        self._imported: set[str] = set()
        self.rounds = rounds

    def python(self, client: str) -> str:
        return str(self._official_python) if client.startswith("official") else sys.executable

    def run(self, client: str, work: str, numbers: dict[str, Any]) -> dict[str, Any]:
        """Make one measurement: run ``clients/<client>.py`` and return its result."""
        command = [self.python(client), CLIENTS / f"{client}.py", self._uri, work, json.dumps(numbers)]
        return json.loads(run_python(command))

    def import_time(self, client: str, module: str) -> float:
        """Return the seconds to import a module in a fresh interpreter, with its byte code compiled before."""
        program = f"from time import perf_counter as now; t = now(); import {module}; print(now() - t)"
        command = [self.python(client), "-c", program]
        if client not in self._imported:
            run_python(command)
            self._imported.add(client)
        return float(run_python(command))


def run_python(command: list[Any]) -> str:
    """Run a program that prints one line, and return that line.

    Raises:
        SystemExit: the program failed; the text has what the program printed to standard error.
    """
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    # An installed package has compiled byte code; without byte code, an import would mostly measure the compiler.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


class Sample:
    """The numbers that the rounds of one measurement gave, in one unit."""

    def __init__(self) -> None:
        self.values: list[float] = []

    @property
    def median(self) -> float:
        return median(self.values)


def ratio(ours: Sample, theirs: Sample) -> float:
    """Return the ratio of the medians."""
    return ours.median / theirs.median


def spread(ours: Sample, theirs: Sample) -> tuple[float, float]:
    """Return the lowest and the highest ratio of any round: they show how much other load there was."""
    ratios = [mine / other for mine, other in zip(ours.values, theirs.values)]
    return min(ratios), max(ratios)
