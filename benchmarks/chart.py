"""Draws the chart of docs/performance.md, the speeds relative to the official client, as plain SVG.

It can be read on a phone, where the text of a page is 358 px wide, and on a page of either colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from benchmarks.goals import Row
from benchmarks.report import TIMES

WIDTH, LEFT, RIGHT, TOP = 400, 12, 52, 66  # pixels
LINE, BAR, GAP = 17, 14, 12
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


def speeds(row: Row) -> dict[str, float]:
    """Return each client's speed relative to the official client, whether the numbers are speeds or times."""
    theirs = row.theirs.median
    return {
        client: theirs / row.samples[client].median if row.work.less else row.samples[client].median / theirs
        for client in TITLES
        if client in row.samples
    }


def draw(rows: Sequence[Row]) -> str:
    """Draw the rows that compare with an official client. Returns the text of an SVG file."""
    return draw_speeds({row.work.title: speeds(row) for row in rows if row.work.reference == "official"})


def draw_speeds(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Draw the relative speeds of clients at each kind of work."""
    scale = (WIDTH - LEFT - RIGHT) / max(value for row in rows.values() for value in row.values())
    parts: list[str] = []
    y = TOP + LINE
    for title, row in rows.items():
        parts.append(f'<text x="{LEFT}" y="{y + 12}">{escape(title)}</text>')
        y += LINE
        one = f"{LEFT + scale:.1f}"
        line = f'<line class="one" x1="{one}" y1="{y - 2}" x2="{one}" y2="{y + BAR * len(row) + 1}"/>'
        for client, value in row.items():
            length = value * scale
            label = LEFT + length + 5
            if label < LEFT + scale < label + 32:  # the line would cross the number
                label = LEFT + scale + 5
            parts.append(
                f'<rect class="{client}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 1}"/>'
                f'<text x="{label:.1f}" y="{y + 11}">{value:.1f} {TIMES}</text>'
            )
            y += BAR
        parts.append(line)
        y += GAP
    description = "; ".join(
        f"{title}: {', '.join(f'{TITLES[client]} {value:.1f}' for client, value in row.items())}"
        for title, row in rows.items()
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
            ' role="img">',
            "  <title>Speed of pie-sync relative to the official async client; longer is faster</title>",
            f"  <desc>{escape(description)}</desc>",
            f"  <style>{STYLE}  </style>",
            f'  <rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{y - 1}" rx="6"/>',
            f'  <text class="title" x="{LEFT}" y="22">Relative speed, longer is faster</text>',
            *_legend(),
            *(f"  {part}" for part in parts),
            f'  <text class="red" x="{LEFT}" y="{TOP}">red line: the official async client = 1</text>',
            "</svg>\n",
        ]
    )


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
