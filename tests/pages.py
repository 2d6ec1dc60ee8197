"""The pages of the documentation: which part of a page needs the real engine, and which lines are one line."""

from __future__ import annotations

import re

__all__ = ["ON_THE_ENGINE", "WIDTH", "before_engine", "unwrapped"]

#: How a Python block begins that needs a real server with a model, whose address is in ``PIE_URI``: with a comment
#: that readers don't see. Such a block, and what follows it on its page, runs in tests/real_server/.
ON_THE_ENGINE = "<!-- on the engine -->\n```python\n"

#: How many characters of code a page has room for.
WIDTH = 88


def before_engine(text: str) -> str:
    """Return the part of a page that needs no engine."""
    return text.partition(ON_THE_ENGINE)[0]


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
