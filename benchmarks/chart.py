"""Draws the chart of docs/performance.md, the speeds relative to the official client, as plain SVG."""

from __future__ import annotations

from xml.sax.saxutils import escape

from benchmarks.goals import Row
from benchmarks.report import TIMES

BAR, GAP, TOP, LEFT, WIDTH, RIGHT = 14, 16, 64, 330, 480, 70  # pixels
RED = "#d1242f"
COLOURS = {"ours": "#1f6feb", "plain": "#9a9a9a"}
TITLES = {"ours": "pie-sync", "plain": "websocket-client + queue.Queue, a plain client"}


def speeds(row: Row) -> dict[str, float]:
    """Return each client's speed relative to the official client, whether the numbers are speeds or times."""
    theirs = row.theirs.median
    return {
        client: theirs / row.samples[client].median if row.work.less else row.samples[client].median / theirs
        for client in COLOURS
        if client in row.samples
    }


def draw(rows: list[Row]) -> str:
    """Draw the rows that compare with an official client. Returns the text of an SVG file."""
    rows = [row for row in rows if row.work.reference == "official"]
    scale = WIDTH / max(value for row in rows for value in speeds(row).values())
    parts = [_legend()]
    y = TOP
    for row in rows:
        bars = speeds(row)
        middle = y + BAR * len(bars) / 2 + 4
        parts.append(f'<text x="{LEFT - 10}" y="{middle:.0f}" text-anchor="end">{escape(row.work.title)}</text>')
        for client, value in bars.items():
            length = value * scale
            parts.append(
                f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 1}" fill="{COLOURS[client]}"/>'
                f'<text x="{LEFT + length + 6:.1f}" y="{y + BAR - 3}">{value:.1f} {TIMES}</text>'
            )
            y += BAR
        y += GAP
    one = f"{LEFT + scale:.1f}"
    parts.append(
        f'<line x1="{one}" y1="{TOP - 10}" x2="{one}" y2="{y - GAP + 6}" stroke="{RED}" stroke-width="1.5"/>'
        f'<text x="{one}" y="{TOP - 14}" text-anchor="middle" fill="{RED}">official client = 1</text>'
    )
    width = LEFT + WIDTH + RIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}"'
        ' font-family="sans-serif" font-size="12" role="img">\n'
        "<title>Speed of pie-sync relative to the official async client; longer is faster</title>\n"
        f'<rect width="{width}" height="{y}" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _legend() -> str:
    parts = ['<text x="10" y="22" font-size="14" font-weight="bold">Relative speed, longer is faster</text>']
    x = LEFT
    for client, title in TITLES.items():
        parts.append(
            f'<rect x="{x}" y="11" width="{BAR}" height="{BAR}" fill="{COLOURS[client]}"/>'
            f'<text x="{x + BAR + 6}" y="22">{escape(title)}</text>'
        )
        x += 110
    return "".join(parts)
