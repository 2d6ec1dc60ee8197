"""Describes the machine and the packages of a measurement."""

from __future__ import annotations

import os
import platform
from datetime import date
from pathlib import Path

from benchmarks.measure import Bench, run_python

PACKAGES = {
    "ours": ["pie-sync", "websocket-client", "msgpack", "blake3", "numpy"],
    "official": ["pie-client", "websockets", "msgpack", "blake3"],
}

PROGRAM = """
from importlib.metadata import PackageNotFoundError, version
def describe(name):
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"
print(", ".join(map(describe, %r)))
"""


def describe(bench: Bench) -> list[tuple[str, str]]:
    """Return (what, description) pairs."""
    return [
        ("processor", f"{_processor()}, {os.cpu_count()} cores"),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("pie-sync's packages", _packages(bench, "ours")),
        ("the official client's packages", _packages(bench, "official")),
        ("date", date.today().isoformat()),
    ]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _packages(bench: Bench, client: str) -> str:
    return run_python([bench.python(client), "-c", PROGRAM % PACKAGES[client]]).strip()
