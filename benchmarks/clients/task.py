"""What every measured client is told, and how it tells its result. Standard library only: it runs everywhere."""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter, process_time
from typing import Any, Callable


class Clock:
    """Measures the part of a program between ``start`` and ``stop``, in seconds of time and of processor."""

    def start(self) -> None:
        self._cpu = process_time()
        self._begin = perf_counter()

    def stop(self) -> dict[str, float]:
        end = perf_counter()
        return {"seconds": end - self._begin, "cpu_seconds": process_time() - self._cpu}


def payload(size: int) -> bytes:
    """Something to upload that is neither a file nor all zeros."""
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def check(counted: int, expected: int) -> None:
    """Nothing is fast that loses events."""
    if counted != expected:
        raise SystemExit(f"{counted} events arrived, not {expected}")


def blocking(kinds: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Make functions of coroutine functions."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **numbers: asyncio.run(function(*args, **numbers))

    return {name: wrap(function) for name, function in kinds.items()}


def run(kinds: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """Do what the command line says: the server's URI, the kind of work, and its numbers. Print the result."""
    _, uri, work, numbers = sys.argv
    print(json.dumps(kinds[work](uri, **json.loads(numbers))))
