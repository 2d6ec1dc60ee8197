"""Draws the chart of docs/performance.md, the speeds relative to the official client, as plain SVG.

The chart has a group for each release of the official client, since each is a baseline of its own. It can be read
on a phone, where the text of a page is 358 px wide, and on a page of either colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.goals import OFFICIAL, OFFICIAL_REAL, Row
from benchmarks.report import TIMES

WIDTH, LEFT, RIGHT, TOP = 400, 12, 62, 56  # pixels
LINE, BAR, GAP = 17, 14, 12
NUMBER = 46  # the width of a number behind a bar
TITLES = {"ours": "pie-sync", "plain": "a plain client on websocket-client"}

STYLE = """
    text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: #1f2328; }
    .title { font-weight: bold; }
    .page { fill: #ffffff; stroke: #d0d7de; }
    .ours { fill: #1f6feb; }
    .plain { fill: #9a9a9a; }
    .one { stroke: #d1242f; stroke-width: 1.5; }
    .red { fill: #d1242f; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .page { fill: #161b22; stroke: #3d444d; }
      .ours { fill: #4493f8; }
      .one { stroke: #ff7b72; }
      .red { fill: #ff7b72; }
    }
"""


@dataclass(frozen=True)
class Group:
    """Works that are compared with the same release of the official client.

    Attributes:
        server: what the clients talk to.
        official: the release of the official client, whose speed is 1.
        speeds: for each work the relative speed of each client.
    """

    server: str
    official: str
    speeds: Mapping[str, Mapping[str, float]]


def speeds(row: Row) -> dict[str, float]:
    """Return each client's speed relative to the official client, whether the numbers are speeds or times."""
    theirs = row.theirs.median
    medians = {client.partition("_")[0]: sample.median for client, sample in row.samples.items()}
    return {
        client: theirs / medians[client] if row.work.less else medians[client] / theirs
        for client in TITLES
        if client in medians
    }


def groups(rows: Sequence[Row], real: Sequence[Row]) -> list[Group]:
    """Return what the chart shows of the rows that were measured against the load source and on a real server."""

    def compared(some: Sequence[Row]) -> dict[str, dict[str, float]]:
        return {row.work.title: speeds(row) for row in some if row.work.charted and row.work.reference != "bare"}

    return [
        Group("On a real server of Pie 0.5", OFFICIAL_REAL, compared(real)),
        Group("Against a load source, instance protocol", OFFICIAL, compared(rows)),
    ]


def draw(rows: Sequence[Row], real: Sequence[Row]) -> str:
    """Draw the rows that compare with an official client. Returns the text of an SVG file."""
    return draw_groups(groups(rows, real))


def draw_groups(parts: Sequence[Group]) -> str:
    """Draw the relative speeds of clients at each kind of work, group after group on one scale."""
    longest = max(value for group in parts for row in group.speeds.values() for value in row.values())
    scale = (WIDTH - LEFT - RIGHT) / longest
    lines: list[str] = []
    y = TOP
    for group in parts:
        y += LINE
        lines += [
            f'<text class="title" x="{LEFT}" y="{y}">{escape(group.server)}</text>',
            f'<text class="red" x="{LEFT}" y="{y + LINE}">red line: pie-client {group.official},'
            " the official async client = 1</text>",
        ]
        y += LINE + GAP
        for title, row in group.speeds.items():
            lines += _work(title, row, scale, y)
            y += LINE + BAR * len(row) + GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
            ' role="img">',
            f"  <title>Speed of pie-sync relative to the official async client, pie-client"
            f" {' and '.join(group.official for group in parts)}; longer is faster</title>",
            f"  <desc>{escape(' '.join(map(_description, parts)))}</desc>",
            f"  <style>{STYLE}  </style>",
            f'  <rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{y - 1}" rx="6"/>',
            f'  <text class="title" x="{LEFT}" y="22">Relative speed, longer is faster</text>',
            *_legend(),
            *(f"  {line}" for line in lines),
            "</svg>\n",
        ]
    )


def _work(title: str, row: Mapping[str, float], scale: float, y: int) -> list[str]:
    """Draw one kind of work: its title, a bar for each client, and the line that is the official client."""
    parts = [f'<text x="{LEFT}" y="{y + 12}">{escape(title)}</text>']
    y += LINE
    one = LEFT + scale
    line = f'<line class="one" x1="{one:.1f}" y1="{y - 2}" x2="{one:.1f}" y2="{y + BAR * len(row) + 1}"/>'
    for client, value in row.items():
        length = value * scale
        label = LEFT + length + 5
        if one - NUMBER < label < one + 5:  # the line would cross the number
            label = one + 5
        parts.append(
            f'<rect class="{client}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 1}"/>'
            f'<text x="{label:.1f}" y="{y + 11}">{value:.2f} {TIMES}</text>'
        )
        y += BAR
    return [*parts, line]


def _description(group: Group) -> str:
    works = (
        f"{title}: {', '.join(f'{TITLES[client]} {value:.2f}' for client, value in row.items())}"
        for title, row in group.speeds.items()
    )
    return f"{group.server}, relative to pie-client {group.official}: {'; '.join(works)}."


def _legend() -> list[str]:
    lines = []
    x = LEFT
    for client, title in TITLES.items():
        lines.append(
            f'  <rect class="{client}" x="{x}" y="33" width="12" height="12"/>'
            f'<text x="{x + 17}" y="44">{escape(title)}</text>'
        )
        x += 82
    return lines
