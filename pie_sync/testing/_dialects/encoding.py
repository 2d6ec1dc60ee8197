"""What both generations of the protocol have in common in how they write things down."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgpack

__all__ = ["canonical", "flag", "pack"]


def pack(message: Mapping[str, Any]) -> bytes:
    """Return a message in msgpack."""
    # A Python program may send half a surrogate pair, which has no UTF-8.
    packed: bytes = msgpack.packb(message, use_bin_type=True, unicode_errors="replace")
    return packed


def canonical(instance_id: str) -> str | None:
    """Return a UUID in its usual form, None when it is none."""
    try:
        return str(uuid.UUID(instance_id))
    except ValueError:
        return None


def flag(value: bool) -> str:
    """Return a yes or no as it is told in a text."""
    return "true" if value else "false"
