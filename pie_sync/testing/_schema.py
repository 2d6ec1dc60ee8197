"""Which messages a protocol knows, and whether some bytes are one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

import msgpack

__all__ = ["Schema", "decode", "is_flag", "is_raw", "is_text", "is_text_list", "is_uint32"]

Check = Callable[[Any], bool]
Schema = Mapping[str, Mapping[str, Check]]
"""The fields of each type of message, with what a value must be. Further fields are no fault."""


def decode(data: bytes, schema: Schema) -> dict[str, Any] | None:
    """Return the message in ``data``; None when it is not one that ``schema`` knows, complete and well typed."""
    try:
        message = msgpack.unpackb(data, raw=False)
    except Exception:  # msgpack raises half a dozen kinds, not all of them its own
        return None
    if not isinstance(message, dict):
        return None
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in schema:
        return None
    fields = schema[kind].items()
    return message if all(name in message and check(message[name]) for name, check in fields) else None


def is_uint32(value: object) -> bool:
    """Whether ``value`` is an unsigned 32-bit integer."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32


def is_text(value: object) -> bool:
    """Whether ``value`` is msgpack ``str``."""
    return isinstance(value, str)


def is_raw(value: object) -> bool:
    """Whether ``value`` is msgpack ``bin``."""
    return isinstance(value, bytes)


def is_flag(value: object) -> bool:
    """Whether ``value`` is a boolean."""
    return isinstance(value, bool)


def is_text_list(value: object) -> bool:
    """Whether ``value`` is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
