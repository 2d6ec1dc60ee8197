"""Measures 10 000 short instances over one connection, with ``client.map`` and with the official client.

The server is a LocalServer in a process of its own; each client runs in another process, one after the other.
Unlike the other measurements this one includes the server, which runs a Python function for each instance. Only
the client differs between the rows.

    python -m benchmarks.batches [--count 10000] [--concurrency 16] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Any

OFFICIAL = "0.2.1"
COUNT, CONCURRENCY = 10_000, 16
LIMIT = 300.0  # seconds, for one measurement
ROOT = Path(__file__).resolve().parent.parent


# --- the measured clients: each runs in a process of its own, and imports only what it needs itself ---------


def by_map(uri: str, count: int, concurrency: int) -> dict[str, float]:
    from pie_sync import PieClient

    with PieClient(uri) as client:
        client.authenticate("alice")
        clock = Clock()
        results = client.map("square", ([str(number)] for number in range(count)), concurrency=concurrency)
        for number, completed in enumerate(results):
            check(completed.message, number)
        return clock.stop()


def by_gather(uri: str, count: int, concurrency: int) -> dict[str, float]:
    """Run as many instances at a time as :func:`by_map`, limited by a semaphore."""
    return asyncio.run(_gather(uri, count, concurrency))


def by_gather_of_all(uri: str, count: int, _concurrency: int) -> dict[str, float]:
    """Run all instances at once."""
    return asyncio.run(_gather(uri, count, count))


async def _gather(uri: str, count: int, concurrency: int) -> dict[str, float]:
    from pie_client import Event, PieClient

    places = asyncio.Semaphore(concurrency)

    async def run(client: PieClient, number: int) -> str:
        async with places:
            instance = await client.launch_instance_from_registry("square", [str(number)])
            while True:
                event, message = await instance.recv()
                if event is Event.Completed:
                    return message

    async with PieClient(uri) as client:
        await client.authenticate("alice")
        clock = Clock()
        results = await asyncio.gather(*(run(client, number) for number in range(count)))
        for number, message in enumerate(results):
            check(message, number)
        return clock.stop()


class Clock:
    """Measures time and processor time in seconds, and the growth of the peak memory in MiB."""

    def __init__(self) -> None:
        self._memory = peak_memory()
        self._cpu = process_time()
        self._begin = perf_counter()

    def stop(self) -> dict[str, float]:
        seconds, cpu = perf_counter() - self._begin, process_time() - self._cpu
        return {"seconds": seconds, "cpu": cpu, "growth": peak_memory() - self._memory}


def peak_memory() -> float:
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def check(message: str, number: int) -> None:
    """End the process if a result is wrong: the speed of a client that mixes up results does not count."""
    if message != str(number**2):
        raise SystemExit(f"the result of {number} is {message}")


def serve(seconds: float) -> None:
    """Serve a program whose instances take so many seconds, besides what the server itself takes."""
    from pie_sync.testing import LocalServer, ProgramContext

    with LocalServer() as server:

        @server.program("square")
        def square(context: ProgramContext) -> str:
            context.send("thinking")
            if seconds:
                sleep(seconds)
            return str(int(context.args[0]) ** 2)

        print(server.uri, flush=True)
        sys.stdin.read()


# --- the measurement --------------------------------------------------------------------------------------

CLIENTS: dict[str, tuple[str, Callable[[str, int, int], dict[str, float]]]] = {
    "map": ("pie-sync, map", by_map),
    "gather": (f"pie-client {OFFICIAL}, gather and a semaphore", by_gather),
    "gather-all": (f"pie-client {OFFICIAL}, gather of all at once", by_gather_of_all),
}


@contextmanager
def server(*options: str) -> Iterator[str]:
    command = [sys.executable, __file__, "--serve", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def measure(python: Path | str, uri: str, name: str, count: int, concurrency: int) -> dict[str, float]:
    command = [python, __file__, "--client", name, uri, "--count", str(count), "--concurrency", str(concurrency)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def compare(count: int, concurrency: int, rounds: int) -> str:
    """Measure all clients alternately, and return their table."""
    from benchmarks.report import table
    from tests.testing.official import official_python

    pythons: dict[str, Any] = {"map": sys.executable}
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in CLIENTS}
    for _ in range(rounds):
        for name, results in samples.items():
            with server() as uri:  # a new server each time: records of earlier instances would cost time
                python = pythons.get(name) or official_python(OFFICIAL)
                results.append(measure(python, uri, name, count, concurrency))
    lines = []
    for name, results in samples.items():
        seconds, cpu, growth = (median(result[key] for result in results) for key in ("seconds", "cpu", "growth"))
        lines.append([CLIENTS[name][0], f"{count / seconds:,.0f}", f"{cpu / count * 1e6:.0f}", f"{growth:.1f}"])
    head = [f"{count:,} instances", "instances/s", "µs of processor time each", "growth of memory, MiB"]
    return table(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT, help="how many instances")
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY, help="how many instances at a time")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each median")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--client", nargs=2, metavar=("NAME", "URI"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.seconds)
    elif options.client:
        name, uri = options.client
        print(json.dumps(CLIENTS[name][1](uri, options.count, options.concurrency)))
    else:
        print(compare(options.count, options.concurrency, options.rounds))


if __name__ == "__main__":
    main()
