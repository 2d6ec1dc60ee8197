"""Many instances on one connection: an event costs the same whether it's one instance or ten thousand."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.goals import OFTEN
from benchmarks.measure import Bench, Sample

SIZE = 100  # bytes of an event's text
EVENTS = 200_000  # in all, whatever the number of instances
INSTANCES = [1, 10, 100, 1_000, 10_000]
QUICK_INSTANCES = [1, 100, 1_000]
TOLERANCE = 0.20

#: How many events of one instance come in a row before it's the turn of the next.
ORDERS = {"one each": 1, "20 in a row": 20}


@dataclass
class Cost:
    """What an event cost: microseconds of time, and of processor time of all threads together."""

    wall: Sample = field(default_factory=Sample)
    cpu: Sample = field(default_factory=Sample)


@dataclass
class Scale:
    """One number of instances, measured.

    Attributes:
        instances: how many there were, all consumed by one thread.
        orders: the cost by the order in which the events arrived.
        threads: the most that the process had.
    """

    instances: int
    orders: dict[str, Cost] = field(default_factory=lambda: {order: Cost() for order in ORDERS})
    threads: int = 0


def measure(bench: Bench, *, quick: bool) -> list[Scale]:
    """Measure the same number of events in all, spread over more and more instances."""
    numbers, events = (QUICK_INSTANCES, EVENTS // 5) if quick else (INSTANCES, EVENTS)
    scales = [Scale(number) for number in numbers]
    # Often: neighbours on the same host make one process in three half as fast, and here the rows are compared to
    # each other rather than to another client that would be disturbed as well.
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
    """Whether an event costs the same as with one instance, within the tolerance."""
    limit = scales[0].orders[order].wall.median * (1 + TOLERANCE)
    return all(scale.orders[order].wall.median <= limit for scale in scales)
