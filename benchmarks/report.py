"""Makes the tables for the terminal and for docs/performance.md, as Markdown."""

from __future__ import annotations

from benchmarks.goals import OFFICIAL, Row
from benchmarks.measure import Sample, spread
from benchmarks.scaling import TOLERANCE, Scale, flat

#: A client that reaches more than this part of the bare socket's speed may be limited by the load source.
SUSPICIOUS = 0.7

VERDICTS = {True: "yes", False: "**no**", None: ""}

TIMES = "\N{MULTIPLICATION SIGN}"


def table(head: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table. All columns but the first are aligned to the right, for numbers."""
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]

    def render(cells: list[str]) -> str:
        first, *others = zip(cells, widths)
        return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([render(head), rule, *map(render, lines)])


def goals(rows: list[Row], official: str) -> str:
    """Return the table of our numbers, theirs, the ratios and the goals.

    Args:
        rows: what was measured.
        official: the release of the official client.
    """
    lines = []
    for row in rows:
        work = row.work
        low, high = spread(row.ours, row.theirs)
        theirs = number(row.theirs) + (" (bare socket)" if work.reference == "bare" else "")
        goal = "" if work.goal is None else f"{'≤' if work.less else '≥'} {work.goal} {TIMES}"
        found = f"{row.ratio:.2f} {TIMES}"
        met = VERDICTS[row.met]
        lines.append(
            [work.title, found, work.unit, number(row.ours), theirs, f"{low:.2f} - {high:.2f}", goal, met]
        )
    # The ratio comes second, so that it is on the screen of a phone.
    head = ["work", "ratio", "unit", "pie-sync", f"pie-client {official}", "in any round", "goal", "met"]
    return table(head, lines)


def everybody(rows: list[Row]) -> str:
    """Return the table of all clients, including the plain client and the bare socket."""
    columns = ["plain", "official", "ours", "bare"]
    head = [
        "work",
        "unit",
        "websocket-client + queue.Queue",
        f"pie-client {OFFICIAL}",
        "pie-sync",
        "bare socket (the limit)",
    ]
    lines = []
    for row in rows:
        cells = [number(row.samples[client]) if client in row.samples else "" for client in columns]
        lines.append([row.work.title, row.work.unit, *cells])
    return table(head, lines)


def scaling(scales: list[Scale]) -> str:
    """Return the table of many instances on one connection, with columns for each order of their events."""
    orders = list(scales[0].orders)
    lines = []
    for scale in scales:
        line = [f"{scale.instances:,}"]
        for order in orders:
            wall, cpu = scale.orders[order].wall.median, scale.orders[order].cpu.median
            line += [f"{wall:.2f}", f"{wall / scales[0].orders[order].wall.median:.2f} {TIMES}", f"{cpu:.2f}"]
        lines.append([*line, str(scale.threads)])
    head = ["instances"]
    for order in orders:
        head += [f"{order}: µs for an event", "to one instance", "µs of processor time"]
    verdicts = [f"{order} {VERDICTS[flat(scales, order)]}" for order in orders]
    threads = VERDICTS[len({scale.threads for scale in scales}) == 1]
    verdict = f"Flat within {TOLERANCE:.0%}: {', '.join(verdicts)}. Threads constant: {threads}."
    return f"{table([*head, 'threads'], lines)}\n\n{verdict}"


def doubts(rows: list[Row]) -> list[str]:
    """Name the rows in which the load source may have been the bottleneck."""
    found = []
    for row in rows:
        if row.work.less or row.work.reference == "bare" or "bare" not in row.samples:
            continue
        part = row.ours.median / row.samples["bare"].median
        if part > SUSPICIOUS:
            found.append(
                f"{row.work.title}: pie-sync reaches {part:.0%} of the bare socket; is the source the limit?"
            )
    return found


def number(sample: Sample) -> str:
    value = sample.median
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
