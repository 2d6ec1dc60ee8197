"""Schemas of client messages: decodes a frame and checks its fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Callable

import msgpack

__all__ = [
    "BadFrameError",
    "Schema",
    "decode",
    "is_bool",
    "is_bytes",
    "is_str",
    "is_str_list",
    "is_uint32",
    "parse",
]

Check = Callable[[Any], bool]
Schema = Mapping[str, Mapping[str, Check]]
"""The required fields of each type of message, with a check of their values. Further fields are ignored."""


class BadFrameError(ValueError):
    """A frame is not a complete message of the schema, for the reason in the text."""


def decode(data: bytes | str, schema: Schema) -> dict[str, Any] | None:
    """Return the message in ``data``, None if there is none; see :func:`parse`."""
    try:
        return parse(data, schema)
    except BadFrameError:
        return None


def parse(data: bytes | str, schema: Schema) -> dict[str, Any]:
    """Return the message in ``data``: msgpack in bytes, JSON in a str.

    Raises:
        BadFrameError: ``data`` is not a message of the schema.
    """
    try:
        message = json.loads(data) if isinstance(data, str) else msgpack.unpackb(data, raw=False)
    except Exception as error:  # msgpack raises several types, also built-in ones
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


def is_str(value: object) -> bool:
    """Whether ``value`` is a msgpack ``str``."""
    return isinstance(value, str)


def is_bytes(value: object) -> bool:
    """Whether ``value`` is a msgpack ``bin``."""
    return isinstance(value, bytes)


def is_bool(value: object) -> bool:
    """Whether ``value`` is a boolean."""
    return isinstance(value, bool)


def is_str_list(value: object) -> bool:
    """Whether ``value`` is a list of msgpack ``str``."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_EXPECTED: Mapping[Check, str] = {
    is_uint32: "u32",
    is_str: "a string",
    is_bytes: "a byte array",
    is_bool: "a boolean",
    is_str_list: "a sequence of strings",
}
