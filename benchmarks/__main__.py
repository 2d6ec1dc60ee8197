"""Measures everything and prints the tables. Without ``--quick`` also writes docs/performance.md and its chart."""

from __future__ import annotations

import argparse
import sys
from time import monotonic

from benchmarks import (
    batches,
    chart,
    goals,
    many_servers,
    page,
    real_server,
    report,
    scaling,
    short_instances,
)
from benchmarks.goals import OFFICIAL, OFFICIAL_REAL
from benchmarks.measure import ROOT, Bench, load_source
from tests.testing.official import official_python

CLIENTS = ("ours", "official", "plain", "bare")
ROUNDS, QUICK_ROUNDS = 5, 3
QUICK_SCALE = 0.2
QUICK_CLIENTS = ("ours", "official")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller numbers, under a minute, write nothing")
    parser.add_argument("--rounds", type=int, help=f"rounds of each median: {ROUNDS}, or {QUICK_ROUNDS} if quick")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows whose title contains this text")
    options = parser.parse_args()

    begin = monotonic()
    with load_source() as uri:
        rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
        bench = Bench(uri, official_python(OFFICIAL), rounds)
        works = goals.works(QUICK_SCALE, QUICK_CLIENTS) if options.quick else goals.works(1.0, CLIENTS)
        rows = []
        for work in works:
            if options.only in work.title:
                progress(work.title)
                rows += goals.measure(bench, work)
        scales = []
        if options.only in "scaling":
            progress("scaling")
            scales = scaling.measure(bench, quick=options.quick)
        short = []
        if options.only in "short instances":
            progress("short instances")
            count, runs = (2000, 400) if options.quick else (short_instances.COUNT, short_instances.RUNS)
            short = short_instances.measure(bench, count, runs)
        progress("")
        for text in page.tables(rows, scales):
            print(f"{text}\n")
        if short:
            print(f"{report.goals(short, OFFICIAL)}\n")
        if not options.quick and not options.only:
            progress("real server")
            real = real_server.compare(real_server.EVENTS, real_server.PINGS, rounds)
            progress("batches")
            together = batches.compare(batches.COUNT, batches.CONCURRENCY, rounds)
            progress("many servers")
            servers = many_servers.compare(many_servers.COUNT, rounds)
            progress("")
            print(f"{report.goals(real, OFFICIAL_REAL)}\n\n{together}\n\n{servers}\n")
            where = ROOT / "docs"
            (where / "performance.svg").write_text(chart.draw(rows, real))
            text = page.write(bench, rows, scales, short, real=real, batches=together, servers=servers)
            (where / "performance.md").write_text(text)
            print("Written: docs/performance.md, docs/performance.svg")
    print(f"{monotonic() - begin:.0f} s")


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
