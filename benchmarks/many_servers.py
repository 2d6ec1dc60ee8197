"""Measures how the throughput of one process grows with the number of servers.

Each server is a LocalServer in a process of its own; an instance takes 20 ms, in which the server sleeps, as if a
graphics processor did the work. The client is one process: ``run_batch`` with a ``ThreadPoolExecutor``.

    python -m benchmarks.many_servers [--count 1500] [--rounds 3]
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from statistics import median
from time import perf_counter, process_time

SERVERS = (1, 2, 4)
COUNT = 1_500  # instances for each server
SECONDS = 0.02  # of one instance
CONCURRENCY = 16  # instances at a time on each server
SHARDS_EACH = 2


def measure(uris: list[str], count: int) -> tuple[float, float]:
    """Return the time and the processor time of a batch, in seconds."""
    from pie_sync.batch import run_batch

    inputs = [[str(number)] for number in range(count)]
    begin, cpu = perf_counter(), process_time()
    results = run_batch(
        uris,
        "square",
        inputs,
        partial(ThreadPoolExecutor, SHARDS_EACH * len(uris)),
        username="alice",
        concurrency=CONCURRENCY // SHARDS_EACH,
        shard_size=64,
    )
    for number, completed in enumerate(results):
        if completed.message != str(number**2):
            raise SystemExit(f"the result of {number} is {completed.message}")
    return perf_counter() - begin, process_time() - cpu


def compare(count: int, rounds: int) -> str:
    """Measure all numbers of servers alternately, and return their table."""
    from benchmarks.batches import server
    from benchmarks.report import table

    samples: dict[int, list[tuple[float, float]]] = {number: [] for number in SERVERS}
    with ExitStack() as stack:
        uris = [stack.enter_context(server("--seconds", str(SECONDS))) for _ in range(max(SERVERS))]
        for _ in range(rounds):
            for number, results in samples.items():
                results.append(measure(uris[:number], count * number))
    rates = {number: count * number / median(wall for wall, _ in results) for number, results in samples.items()}
    lines = [
        [
            f"{number}",
            f"{rates[number]:,.0f}",
            f"{rates[number] / rates[1]:.2f}",
            f"{median(cpu for _, cpu in results) / (count * number) * 1e6:.0f}",
        ]
        for number, results in samples.items()
    ]
    return table(["servers", "instances/s", "times one server", "µs of processor time each"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT, help="how many instances for each server")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each median")
    options = parser.parse_args()
    print(compare(options.count, options.rounds))


if __name__ == "__main__":
    main()
