"""The arguments of an instance, as the process protocol tells them: one JSON text."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["parse_input"]


def parse_input(text: str) -> Any:
    """Return what a JSON text says; None for a text that is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
