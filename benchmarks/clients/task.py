"""Reads a measured client's task and prints its result. Standard library only, to run in every environment."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from time import perf_counter, process_time
from typing import Any, Callable


class Clock:
    """Measures time and processor time between ``start`` and ``stop``, in seconds."""

    def start(self) -> None:
        self._cpu = process_time()
        self._begin = perf_counter()

    def stop(self) -> dict[str, float]:
        end = perf_counter()
        return {"seconds": end - self._begin, "cpu_seconds": process_time() - self._cpu}


def stay_on_one_processor() -> None:
    """Let the threads of this process run on one processor only, so that none has to be woken on another one.

    Linux only.
    """
    assert sys.platform == "linux"
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def peak_memory() -> float:
    """Return the most memory that this process has had, in MiB."""
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def payload(size: int) -> bytes:
    """Return bytes to upload that begin as a program does, and are not all zeros."""
    return (b"\0asm\1\0\0\0" + bytes(range(256)) * (size // 256 + 1))[:size]


def check(counted: int, expected: int) -> None:
    """End the process if events are missing: the speed of a client that loses events does not count."""
    if counted != expected:
        raise SystemExit(f"{counted} events arrived, not {expected}")


def blocking(kinds: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Turn coroutine functions into blocking functions."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **numbers: asyncio.run(function(*args, **numbers))

    return {name: wrap(function) for name, function in kinds.items()}


def run(kinds: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """Do the work on the command line (the server's URI, the kind of work, its numbers), and print the result."""
    _, uri, work, numbers = sys.argv
    print(json.dumps(kinds[work](uri, **json.loads(numbers))))
