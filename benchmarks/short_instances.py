"""Measures short instances against the load source, which ends each one with one event right behind its launch.

Many at a time: ``client.map`` beside ``asyncio.gather`` with a semaphore and the official client. One after the
other: ``client.run`` beside ``launch_instance_from_registry`` and ``recv``. Unlike in ``benchmarks.batches`` the
server is never the bottleneck.

    python -m benchmarks.short_instances [--rounds 5] [--count 10000]
"""

from __future__ import annotations

import argparse
from statistics import median

from benchmarks import report
from benchmarks.goals import OFTEN, Metric, Row, Work
from benchmarks.measure import Bench, Sample, load_source

CLIENTS = ("ours", "official")
CONCURRENCIES = (16, 256)
COUNT = 10_000
RUNS = 2000


def measure(bench: Bench, count: int = COUNT, runs: int = RUNS) -> list[Row]:
    """Measure both clients alternately; each round begins with the other one."""
    rows = []
    for concurrency in CONCURRENCIES:
        title = f"{count:,} instances, {concurrency} at a time"
        rows += _measure(
            bench,
            "batch",
            {"count": count, "concurrency": concurrency},
            [
                (title, "instances/s", 1.6, lambda result: count / result["seconds"], False),
                (f"{title}: processor time of each", "µs", 0.6, lambda result: _each(result, count), True),
                (f"{title}: growth of memory", "MiB", None, lambda result: result["growth"], True),
            ],
        )
    rows += _measure(
        bench,
        "one_by_one",
        {"times": runs},
        [("one after the other, median", "µs", 1.0, lambda result: 1e6 * median(result["times"]), True)],
    )
    return rows


def _each(result: dict[str, float], count: int) -> float:
    return result["cpu_seconds"] / count * 1e6


def _measure(
    bench: Bench,
    kind: str,
    numbers: dict[str, int],
    metrics: list[tuple[str, str, float | None, Metric, bool]],
) -> list[Row]:
    """Measure a kind of work; return a row for each metric of the same runs."""
    runs = dict.fromkeys(CLIENTS, (kind, numbers))
    rows = [Row(Work(title, unit, goal, runs, metric, less=less)) for title, unit, goal, metric, less in metrics]
    for index in range(bench.rounds * OFTEN):
        for client in CLIENTS[:: -1 if index % 2 else 1]:
            result = bench.run(client, kind, numbers)
            for row in rows:
                row.samples.setdefault(client, Sample()).values.append(row.work.metric(result))
    return rows


def main() -> None:
    from tests.testing.official import official_python

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help=f"a {OFTEN}th of the rounds of each median")
    parser.add_argument("--count", type=int, default=COUNT, help="how many instances")
    options = parser.parse_args()
    with load_source() as uri:
        print(report.goals(measure(Bench(uri, official_python("0.2.1"), options.rounds), options.count)))


if __name__ == "__main__":
    main()
