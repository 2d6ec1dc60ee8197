"""Measures short instances against the load source, which ends each one with one event right behind its launch.

Many at a time: ``client.map`` beside ``asyncio.gather`` with a semaphore and the official client. One after the
other: ``client.run`` beside ``launch_instance_from_registry`` and ``recv``. Unlike in ``benchmarks.batches`` the
server is never the bottleneck.

    python -m benchmarks.short_instances [--rounds 5] [--count 10000]
"""

from __future__ import annotations

import argparse
import sys
from statistics import median
from typing import Any

from benchmarks import goals, report
from benchmarks.goals import OFFICIAL, OFTEN, Row, Work
from benchmarks.measure import Bench, load_source

CLIENTS = ("ours", "official")
CONCURRENCIES = (16, 256)
COUNT = 10_000
RUNS = 2000


def measure(bench: Bench, count: int = COUNT, runs: int = RUNS) -> list[Row]:
    """Measure both clients alternately."""
    rows = []
    for concurrency in CONCURRENCIES:
        title = f"{count:,} instances, {concurrency} at a time"
        batch = dict.fromkeys(CLIENTS, ("batch", {"count": count, "concurrency": concurrency}))
        rows += goals.measure(
            bench,
            Work(title, "instances/s", 1.6, batch, lambda result: count / result["seconds"], repeat=OFTEN),
            Work(
                f"{title}: processor time of each",
                "µs",
                0.6,
                batch,
                lambda result: 1e6 * result["cpu_seconds"] / count,
                less=True,
            ),
            Work(f"{title}: growth of memory", "MiB", None, batch, lambda result: result["growth"], less=True),
        )
    runs_of_one: list[tuple[str, float | None, dict[str, Any]]] = [
        ("one after the other, median", 1.0, {"times": runs})
    ]
    if sys.platform == "linux":
        runs_of_one.append(
            ("the same, each client on one processor", None, {"times": runs, "on_one_processor": True})
        )
    for title, goal, numbers in runs_of_one:
        one_by_one = Work(
            title,
            "µs",
            goal,
            dict.fromkeys(CLIENTS, ("one_by_one", numbers)),
            lambda result: 1e6 * median(result["times"]),
            less=True,
            repeat=OFTEN,
        )
        rows += goals.measure(bench, one_by_one)
    return rows


def main() -> None:
    from tests.testing.official import official_python

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help=f"a {OFTEN}th of the rounds of each median")
    parser.add_argument("--count", type=int, default=COUNT, help="how many instances")
    options = parser.parse_args()
    with load_source() as uri:
        print(
            report.goals(measure(Bench(uri, official_python(OFFICIAL), options.rounds), options.count), OFFICIAL)
        )


if __name__ == "__main__":
    main()
