"""Reads TOML. The library for that is imported with the first text: few clients read one."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["parse_toml"]


def parse_toml(text: str) -> dict[str, Any]:
    """Return what a TOML text says.

    Raises:
        ValueError: it is no TOML; the error says where.
    """
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415  # novermin - guarded by the line above
    else:
        import tomli as tomllib  # noqa: PLC0415
    return tomllib.loads(text)
