"""Measures what an event costs with one and with up to ten thousand instances on one connection."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.goals import OFTEN
from benchmarks.measure import Bench, Sample

SIZE = 100  # bytes of an event's text
EVENTS = 200_000  # of all instances together
INSTANCES = [1, 10, 100, 1_000, 10_000]
QUICK_INSTANCES = [1, 100, 1_000]
TOLERANCE = 0.20

#: How many events of one instance come in a row, before those of the next instance.
ORDERS = {"one each": 1, "20 in a row": 20}


@dataclass
class Cost:
    """The cost of an event in microseconds: elapsed time, and processor time of all threads together."""

    wall: Sample = field(default_factory=Sample)
    cpu: Sample = field(default_factory=Sample)


@dataclass
class Scale:
    """The measurements for one number of instances.

    Attributes:
        instances: the number of instances, all consumed by one thread.
        orders: the cost for each order in which the events arrived.
        threads: the highest number of threads in the process.
    """

    instances: int
    orders: dict[str, Cost] = field(default_factory=lambda: {order: Cost() for order in ORDERS})
    threads: int = 0


def measure(bench: Bench, *, quick: bool) -> list[Scale]:
    """Measure the same number of events, spread over more and more instances."""
    numbers, events = (QUICK_INSTANCES, EVENTS // 5) if quick else (INSTANCES, EVENTS)
    scales = [Scale(number) for number in numbers]
    # More rounds than elsewhere: other load on the same host makes one process in three half as fast. Here the
    # rows are compared with each other, and not with another client that would be disturbed as well.
    for _ in range(bench.rounds if quick else bench.rounds * OFTEN):
        for scale in scales:
            for order, cost in scale.orders.items():
                count = events // scale.instances
                work = {"instances": scale.instances, "count": count, "size": SIZE, "burst": ORDERS[order]}
                result = bench.run("ours", "scaling", work)
                cost.wall.values.append(result["seconds"] / events * 1e6)
                cost.cpu.values.append(result["cpu_seconds"] / events * 1e6)
                scale.threads = max(scale.threads, result["threads"])
    return scales


def flat(scales: list[Scale], order: str) -> bool:
    """Return whether an event costs the same as with one instance, within the tolerance."""
    limit = scales[0].orders[order].wall.median * (1 + TOLERANCE)
    return all(scale.orders[order].wall.median <= limit for scale in scales)
