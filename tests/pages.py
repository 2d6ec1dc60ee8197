"""The pages of the documentation: which part of a page needs the real engine, and which lines are one line."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = [
    "FRONT_PAGES",
    "ON_THE_ENGINE",
    "WIDTH",
    "before_engine",
    "engine_blocks",
    "unwrapped",
    "without_engine_blocks",
]

ROOT = Path(__file__).parent.parent

#: How a Python block begins that needs a real server with a model, whose address is in ``PIE_URI``: with a comment
#: that readers don't see. Such a block, and what follows it on its page, runs in tests/real_server/.
ON_THE_ENGINE = "<!-- on the engine -->\n```python\n"

#: Pages whose blocks each run alone, since a reader takes the first one that looks useful.
FRONT_PAGES = [ROOT / "README.md", ROOT / "docs" / "index.md"]

ENGINE_BLOCK = re.compile(rf"^{re.escape(ON_THE_ENGINE)}(.*?)^```$", re.MULTILINE | re.DOTALL)

#: How many characters of code a page has room for.
WIDTH = 88


def before_engine(text: str) -> str:
    """Return the part of a page that needs no engine."""
    return text.partition(ON_THE_ENGINE)[0]


def engine_blocks(text: str) -> list[str]:
    """Return the code of the blocks that need the engine."""
    return ENGINE_BLOCK.findall(text)


def without_engine_blocks(text: str) -> str:
    """Return a page without the blocks that need the engine."""
    return ENGINE_BLOCK.sub("", text)


def unwrapped(printed: str) -> str:
    """Join the lines of a block that a page had to wrap: four spaces begin what had no room in the line before."""
    lines: list[str] = []
    above = ""
    for line in printed.splitlines(keepends=True):
        rest = re.match(r" {4}(?=(\S+))", line)
        if rest and above and len(above.rstrip("\n")) + 1 + len(rest[1]) > WIDTH:
            lines[-1] = lines[-1].rstrip("\n") + " " + line[4:]
        else:
            lines.append(line)
        above = line
    return "".join(lines)
