"""Defines the measured work and its goals: ratios to the official client, or to a bare socket."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any, Callable

from benchmarks.measure import Bench, Sample, ratio

#: Turns the result of one process into the number of the table.
Metric = Callable[[dict[str, Any]], float]

#: The releases of the official client, pie-client, that pie-sync is compared with: the last one for the instance
#: protocol, against the load source, and the one for Pie 0.5, on the real server.
OFFICIAL, OFFICIAL_REAL = "0.2.1", "0.5.3"
REAL_SERVER = "0.5.2"

#: Factor on the number of rounds for work that mostly waits: on a virtual machine, waking a thread takes 1.5 times
#: as long in one second as in the next.
OFTEN = 3


@dataclass(frozen=True)
class Work:
    """One row of the table.

    Attributes:
        title: what the clients do.
        unit: the unit of the numbers.
        goal: for the ratio of ours to theirs: at least that, or at most if ``less``. None if there is no goal.
        runs: the measured clients: client -> (kind of work, its numbers). Ours is compared with an official
            client, or with ``bare`` if no official client is measured.
        metric: computes the number from what a client reports.
        less: whether lower numbers are better.
        repeat: factor on the usual number of rounds.
        charted: whether the chart shows the row, as a speed.
    """

    title: str
    unit: str
    goal: float | None
    runs: dict[str, tuple[str, dict[str, Any]]]
    metric: Metric
    less: bool = False
    repeat: int = 1
    charted: bool = True

    @property
    def ours(self) -> str:
        return next(client for client in self.runs if client.startswith("ours"))

    @property
    def reference(self) -> str:
        return next(client for client in self.runs if client.startswith("official") or client == "bare")


@dataclass
class Row:
    """One work with its measurements."""

    work: Work
    samples: dict[str, Sample] = field(default_factory=dict)

    @property
    def ours(self) -> Sample:
        return self.samples[self.work.ours]

    @property
    def theirs(self) -> Sample:
        return self.samples[self.work.reference]

    @property
    def ratio(self) -> float:
        return ratio(self.ours, self.theirs)

    @property
    def met(self) -> bool | None:
        if self.work.goal is None:
            return None
        return self.ratio <= self.work.goal if self.work.less else self.ratio >= self.work.goal


def measure(bench: Bench, work: Work, *more: Work) -> list[Row]:
    """Measure all clients alternately for a number of rounds; every round begins with another client.

    Args:
        bench: runs the clients.
        work: what to measure.
        more: other metrics of the same runs.

    Returns:
        A row for each of them.
    """
    rows = [Row(one, {client: Sample() for client in work.runs}) for one in (work, *more)]
    clients = list(work.runs)
    for index in range(bench.rounds * work.repeat):
        shift = index % len(clients)
        for client in clients[shift:] + clients[:shift]:
            kind, numbers = work.runs[client]
            if kind == "import":
                result: dict[str, Any] = {"times": [bench.import_time(client, **numbers)]}
            else:
                result = bench.run(client, kind, numbers)
            for row in rows:
                row.samples[client].values.append(row.work.metric(result))
    return rows


def works(scale: float, clients: tuple[str, ...]) -> list[Work]:
    """Return all rows. ``scale`` makes most work smaller; ``clients`` are measured where they can do the work."""

    def scaled(number: int, step: int) -> int:
        return max(step, int(number * scale) // step * step)

    mib = 1024 * 1024
    many = {"instances": 1, "count": scaled(200_000, 1000), "size": 100}
    big = {"instances": 1, "count": scaled(50_000, 1000), "size": 4096}
    crowd = {"instances": 32, "count": scaled(5_000, 100), "size": 100}
    up, down = {"size": 128 * mib}, {"size": 64 * mib}
    pings = {"times": scaled(2000, 100)}
    connects = {"times": scaled(200, 50)}

    def per_second(number: float) -> Metric:
        return lambda result: number / result["seconds"]

    def everybody(kind: str, numbers: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
        return dict.fromkeys(clients, (kind, numbers))

    def stream(title: str, numbers: dict[str, Any], goal: float, **options: Any) -> Work:
        runs = {**everybody("events", numbers), "ours": ("events", {**numbers, **options})}
        return Work(title, "events/s", goal, runs, per_second(numbers["instances"] * numbers["count"]))

    def short(title: str, unit: str, runs: dict[str, tuple[str, dict[str, Any]]], factor: float) -> Work:
        return Work(
            title, unit, 1.0, runs, lambda result: factor * median(result["times"]), less=True, repeat=OFTEN
        )

    def upload(what: str, goal: float | None, runs: dict[str, tuple[str, dict[str, Any]]]) -> Work:
        return Work(f"upload of {up['size'] // mib} MiB{what}", "MiB/s", goal, runs, per_second(up["size"] / mib))

    first = {"ours": ("upload", up), "official": ("upload", up)}
    without = {**first, "ours": ("upload", {**up, "numpy": False})}
    imports = {"ours": ("import", {"module": "pie_sync"}), "official": ("import", {"module": "pie_client"})}
    return [
        stream(f"{many['count']:,} events of 100 bytes, by iteration", many, 4.0),
        stream(f"{many['count']:,} events of 100 bytes, by recv()", many, 3.0, by="recv"),
        stream(f"{big['count']:,} events of 4 KiB", big, 2.5),
        stream(f"32 instances at once, a thread and {crowd['count']:,} events each", crowd, 3.0),
        upload("", 1.5, everybody("upload", {**up, "again": True})),
        upload(", the first of a process", None, first),
        upload(", without numpy", 0.4, without),
        Work(
            f"download of a {down['size'] // mib} MiB blob",
            "MiB/s",
            0.4,
            dict.fromkeys(("ours", "bare"), ("download", down)),
            per_second(down["size"] / mib),
        ),
        short("ping, median", "µs", everybody("ping", pings), 1e6),
        short("connect and authenticate, median", "µs", everybody("connect", connects), 1e6),
        Work(
            "a short instance on a server without TCP_NODELAY, median",
            "µs",
            0.2,
            dict.fromkeys(("ours", "official"), ("short", {"times": scaled(100, 20)})),
            lambda result: 1e6 * median(result["times"]),
            less=True,
            charted=False,  # the official client waits 40 ms there: beside that bar no other could be seen
        ),
        short("import", "ms", imports, 1e3),
    ]
