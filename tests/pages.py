"""The pages of the documentation, and which part of a page needs the real engine."""

from __future__ import annotations

__all__ = ["ON_THE_ENGINE", "before_engine"]

#: How a Python block begins that needs a real server with a model, whose address is in ``PIE_URI``. Such a block,
#: and what follows it on its page, runs in tests/real_server/.
ON_THE_ENGINE = "```python\n# on the engine\n"


def before_engine(text: str) -> str:
    """Return the part of a page that needs no engine."""
    return text.partition(ON_THE_ENGINE)[0]
