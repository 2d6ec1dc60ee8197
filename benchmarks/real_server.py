"""Compares pie-sync with pie-client 0.5.3 on the real pie-server 0.5.2: ``python -m benchmarks.real_server``.

The server limits both clients, so the question is only whether pie-sync is as fast. This program boots the server
as the tests do; if the server can't run here, the program says what to install.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

from benchmarks.goals import OFFICIAL_REAL, OFTEN, Row, Work, measure
from benchmarks.measure import Bench
from benchmarks.report import goals
from pie_sync import PieClient
from pie_sync.testing import EngineUnavailableError
from tests.real_server.harness import RealServer

PROGRAM = """
from inferlet import session

async def burst(count):
    for number in range(count):
        session.send(f"{number:08d} " + 91 * "x")
"""

MANIFEST = """
[package]
name = "pie-sync-benchmark"
version = "1.0.0"

[runtime]
language = "python"
entry = "burst"
call = "kwargs"
"""

EVENTS, PINGS = 20_000, 1_000

FIRST_LIMIT = 300.0  # seconds; the first Python program on a server takes about half a minute


def install(uri: str) -> None:
    """Upload the program, and run it once so that the server compiles it."""
    with PieClient(uri) as client:
        client.authenticate("alice")
        client.upload_program(PROGRAM.encode(), manifest=MANIFEST, timeout=FIRST_LIMIT)
        instance = client.launch_instance_from_registry(
            "pie-sync-benchmark@1.0.0", {"count": 1}, timeout=FIRST_LIMIT
        )
        instance.wait(timeout=FIRST_LIMIT, check=True)


def works(events: int, pings: int) -> list[tuple[Work, ...]]:
    """Return the rows, those of the same runs together: both clients, both kinds of work."""
    both = ("ours_real", "official_real")
    stream = dict.fromkeys(both, ("events", {"count": events}))
    title = f"{events:,} events of 100 bytes"
    return [
        (
            Work(title, "events/s", 0.95, stream, lambda result: events / result["seconds"], repeat=OFTEN),
            Work(
                f"{title}: processor time of each",
                "µs",
                None,
                stream,
                lambda result: 1e6 * result["cpu_seconds"] / events,
                less=True,
                charted=False,
            ),
        ),
        (
            Work(
                "ping, median",
                "µs",
                1.0,
                dict.fromkeys(both, ("ping", {"times": pings})),
                lambda result: 1e6 * median(result["times"]),
                less=True,
                repeat=OFTEN,
            ),
        ),
    ]


def compare(events: int, pings: int, rounds: int) -> list[Row]:
    """Measure both clients alternately."""
    try:
        with RealServer() as server:
            install(server.uri)
            bench = Bench(server.uri, Path(server.python), rounds)
            return [row for together in works(events, pings) for row in measure(bench, *together)]
    except EngineUnavailableError as error:
        raise SystemExit(f"the real Pie server can't run here: {error}") from error


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_server", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--pings", type=int, default=PINGS)
    options = parser.parse_args()
    print(goals(compare(options.events, options.pings, options.rounds), OFFICIAL_REAL))


if __name__ == "__main__":
    main()
