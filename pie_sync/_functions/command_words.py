"""The arguments of a function as words of a command line, whose meaning its parameters tell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .._protocol.arguments import parse, value_of
from .json_kinds import BOOLEAN, LIST, NULL, OBJECT, STRING, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .json_kinds import Kinds

__all__ = ["parse_words"]


def parse_words(words: Sequence[str], kinds: Mapping[str, Kinds]) -> dict[str, Any]:
    """Parse words such as ``--prompt Hello --max-tokens=8 --greedy``, as Pie's command line does.

    That rule takes ``-3`` for an option, and knows no lists. Here a parameter whose kinds are known gets its value
    whatever the value looks like: a string stays one, and lists, objects and null are written in JSON.

    Args:
        words: the words.
        kinds: the kinds of each parameter.

    Raises:
        TypeError: an option needs a value, and has none.
    """
    options: dict[str, Any] = {}
    others: list[str] = []  # what belongs to no option
    index = 0
    while index < len(words):
        word = words[index]
        following = words[index + 1] if index + 1 < len(words) else None
        index += 1
        if not word.startswith("--"):
            others.append(word)
            if len(word) == 2 and word[0] == "-" and following is not None:  # a short option, and its value
                others.append(following)
                index += 1
            continue
        option, equals, value = word.partition("=")
        name = option[2:].replace("-", "_")
        allowed = kinds.get(name)
        if equals:
            options[name] = _converted(value, allowed)
        elif _is_value(following, allowed, kinds):
            assert following is not None
            options[name] = _converted(following, allowed)
            index += 1
        elif allowed is None or BOOLEAN in allowed:
            options[name] = True
        else:
            raise TypeError(f"{option} needs a value; {option}=VALUE takes one that begins with dashes, too")
    return {**options, **parse(others)}


def _is_value(word: str | None, allowed: Kinds, kinds: Mapping[str, Kinds]) -> bool:
    """Whether the word behind an option is its value."""
    if word is None:
        return False
    if allowed is None:
        return not word.startswith("-")
    if allowed <= {BOOLEAN, NULL}:
        return word in ("true", "false", "null")
    return not (word.startswith("--") and word[2:].partition("=")[0].replace("-", "_") in kinds)


def _converted(word: str, allowed: Kinds) -> Any:
    if allowed is None:
        return value_of(word)
    if allowed <= {STRING, NULL}:
        return word
    if word == "null" and NULL in allowed:
        return None
    if allowed & {LIST, OBJECT}:
        try:
            value = json.loads(word)
        except ValueError:
            pass
        else:
            if kind_of(value) in allowed:
                return value
    value = value_of(word)
    return value if kind_of(value) in allowed or STRING not in allowed else word
