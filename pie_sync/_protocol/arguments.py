"""A program's arguments, which one generation takes as a list of strings and the other as one JSON text.

A user may give either a list or a mapping to either. The rule between them is that of Pie's own command line:
``--max-tokens 5 --greedy`` is ``{"max_tokens": 5, "greedy": true}``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PieValueError

__all__ = ["POSITIONAL", "as_json", "as_strings", "parse", "value_of"]

#: Where the arguments go that belong to no option.
POSITIONAL = "_positional"


def as_json(args: Sequence[str] | Mapping[str, Any]) -> str:
    """Return the JSON text of ``args``.

    Raises:
        TypeError, PieValueError: a mapping contains something that is not serialisable as JSON.
    """
    value = dict(args) if isinstance(args, Mapping) else parse(args)
    try:
        return json.dumps(value, allow_nan=False)
    except TypeError as error:
        raise TypeError(f"args are not serialisable as JSON: {error}") from error
    except ValueError as error:
        raise PieValueError(f"args are not serialisable as JSON: {error}") from error


def parse(args: Sequence[str]) -> dict[str, Any]:
    """Parse command-line arguments as the official command line does."""
    options: dict[str, Any] = {}
    positional = []
    index = 0
    while index < len(args):
        argument = args[index]
        following = args[index + 1] if index + 1 < len(args) else None
        index += 1
        if argument.startswith("--"):
            name = argument[2:].replace("-", "_")
            if following is None or following.startswith("-"):
                options[name] = True
            else:
                options[name] = value_of(following)
                index += 1
        elif argument.startswith("-") and len(argument) == 2:
            # A short option takes whatever follows, and is nothing without it.
            if following is not None:
                options[argument[1:]] = value_of(following)
                index += 1
        else:
            positional.append(value_of(argument))
    if positional:
        options[POSITIONAL] = positional
    return options


def value_of(text: str) -> Any:
    """Return the value that the official command line makes of a word: a number, a boolean, or the text."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        # "nan" and "inf" are numbers to Python, but not to JSON: they stay text.
        if isinstance(number, int) or math.isfinite(number):
            return number
    return {"true": True, "false": False}.get(text, text)


def as_strings(args: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return ``args`` as command-line arguments: the reverse of :func:`as_json`.

    Raises:
        TypeError, PieValueError: a mapping contains something that command-line arguments can't express.
    """
    if type(args) is list:
        return args
    if not isinstance(args, Mapping):
        return list(args)
    strings: list[str] = []
    for name, value in args.items():
        if not isinstance(name, str):
            raise TypeError(f"the names in args must be str, not {type(name).__name__}")
        if name == POSITIONAL:
            continue
        if not name or "-" in name:
            raise PieValueError(f"args[{name!r}] can't be a command-line option: use underscores, no dashes")
        strings.append("--" + name.replace("_", "-"))
        if value is not True:
            strings.append(_string(name, value))
    # Positionals come first: behind a flag, one would be taken for its value.
    positional = args.get(POSITIONAL, [])
    if isinstance(positional, str) or not isinstance(positional, Sequence):
        raise TypeError(f"args[{POSITIONAL!r}] must be a list, not {type(positional).__name__}")
    return [_string(POSITIONAL, value) for value in positional] + strings


def _string(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        text = repr(value)
    elif isinstance(value, str):
        text = value
    else:
        raise TypeError(
            f"args[{name!r}] is a {type(value).__name__}, which this server does not take:"
            " it takes command-line arguments, so use a str, a number or a bool"
        )
    if text.startswith("-"):
        raise PieValueError(
            f"args[{name!r}] is {text!r}, which this server would take for an option:"
            " pass args as a list of strings, as the program expects them"
        )
    return text
