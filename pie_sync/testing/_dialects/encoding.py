"""Encoding of messages and values that both generations of the protocol share."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgpack

__all__ = ["bool_text", "normalized_uuid", "pack"]


def pack(message: Mapping[str, Any]) -> bytes:
    """Encode a message with msgpack."""
    # A Python program may send half of a surrogate pair, which can't be encoded as UTF-8.
    packed: bytes = msgpack.packb(message, use_bin_type=True, unicode_errors="replace")
    return packed


def normalized_uuid(instance_id: str) -> str | None:
    """Return a UUID in its canonical form, None if the text is not a UUID."""
    try:
        return str(uuid.UUID(instance_id))
    except ValueError:
        return None


def bool_text(value: bool) -> str:
    """Return a bool as the text of an answer."""
    return "true" if value else "false"
