"""Which messages a protocol knows, and whether some bytes are one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Callable

import msgpack

__all__ = [
    "BadFrameError",
    "Schema",
    "decode",
    "is_flag",
    "is_raw",
    "is_text",
    "is_text_list",
    "is_uint32",
    "parse",
]

Check = Callable[[Any], bool]
Schema = Mapping[str, Mapping[str, Check]]
"""The fields of each type of message, with what a value must be. Further fields are no fault."""


class BadFrameError(ValueError):
    """A frame is no message that the schema knows, complete and well typed; its text says why."""


def decode(data: bytes | str, schema: Schema) -> dict[str, Any] | None:
    """Return the message in ``data``, or None when it is none; see :func:`parse`."""
    try:
        return parse(data, schema)
    except BadFrameError:
        return None


def parse(data: bytes | str, schema: Schema) -> dict[str, Any]:
    """Return the message in ``data``: msgpack in bytes, JSON in a text.

    Raises:
        BadFrameError: it is none.
    """
    try:
        message = json.loads(data) if isinstance(data, str) else msgpack.unpackb(data, raw=False)
    except Exception as error:  # msgpack raises half a dozen kinds, not all of them its own
        raise BadFrameError(str(error) or type(error).__name__) from error
    if not isinstance(message, dict):
        raise BadFrameError(f"invalid type: {type(message).__name__}, expected a map")
    if "type" not in message:
        raise BadFrameError("missing field `type`")
    kind = message["type"]
    if not isinstance(kind, str) or kind not in schema:
        known = ", ".join(f"`{name}`" for name in schema)
        raise BadFrameError(f"unknown variant `{kind}`, expected one of {known}")
    for name, check in schema[kind].items():
        if name not in message:
            raise BadFrameError(f"missing field `{name}`")
        if not check(message[name]):
            expected = _EXPECTED[check]
            raise BadFrameError(f"invalid type: {type(message[name]).__name__} in `{name}`, expected {expected}")
    return message


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


_EXPECTED: Mapping[Check, str] = {
    is_uint32: "u32",
    is_text: "a string",
    is_raw: "a byte array",
    is_flag: "a boolean",
    is_text_list: "a sequence of strings",
}
