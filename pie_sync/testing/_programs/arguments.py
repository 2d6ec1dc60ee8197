"""The one argument of a process: a JSON text."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["parse_input"]


def parse_input(text: str) -> Any:
    """Return the value of a JSON text, None if the text is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
