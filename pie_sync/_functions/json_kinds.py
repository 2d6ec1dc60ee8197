"""Kinds of JSON values: which ones an annotation allows, and which one a value is."""

from __future__ import annotations

import ast
from typing import Any, Optional

__all__ = ["Kinds", "describe", "kind_of", "kinds_of"]

#: The kinds that are allowed; None allows all.
Kinds = Optional[frozenset[str]]

STRING, INTEGER, NUMBER, BOOLEAN, LIST, OBJECT, NULL = (
    "a string",
    "an integer",
    "a number",
    "a boolean",
    "a list",
    "an object",
    "null",
)

_KINDS = {
    "str": {STRING},
    "int": {INTEGER},
    "float": {INTEGER, NUMBER},  # JSON has one kind of numbers, and 1 is one of them
    "bool": {BOOLEAN},
    "list": {LIST},
    "List": {LIST},
    "tuple": {LIST},
    "Tuple": {LIST},
    "dict": {OBJECT},
    "Dict": {OBJECT},
    "Mapping": {OBJECT},
    "None": {NULL},
}

_TYPES = {
    str: STRING,
    bool: BOOLEAN,
    int: INTEGER,
    float: NUMBER,
    list: LIST,
    tuple: LIST,
    dict: OBJECT,
    type(None): NULL,
}


def kind_of(value: Any) -> str | None:
    """Return the kind of a value in JSON; None if it has none."""
    for cls in type(value).__mro__:
        if cls in _TYPES:
            return _TYPES[cls]
    return None


def kinds_of(annotation: ast.expr | None) -> Kinds:
    """Return the kinds that an annotation allows. All, if it says something that is not known here."""
    if annotation is None:
        return None
    if isinstance(annotation, ast.Constant):
        if annotation.value is None:
            return frozenset({NULL})
        return _quoted(annotation.value)
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return _union([annotation.left, annotation.right])
    if isinstance(annotation, ast.Subscript):
        return _subscript(annotation)
    found = _KINDS.get(_last_name(annotation))
    return None if found is None else frozenset(found)


def _quoted(text: Any) -> Kinds:
    try:
        return kinds_of(ast.parse(text, mode="eval").body)
    except (SyntaxError, TypeError, ValueError):
        return None


def _subscript(annotation: ast.Subscript) -> Kinds:
    name = _last_name(annotation.value)
    inner = annotation.slice
    arguments = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Optional":
        return _union([*arguments, ast.Constant(None)])
    if name == "Union":
        return _union(arguments)
    if name == "Annotated":
        return kinds_of(arguments[0])
    if name == "Literal":
        kinds = {kind_of(one.value) if isinstance(one, ast.Constant) else None for one in arguments}
        return None if None in kinds else frozenset(kind for kind in kinds if kind is not None)
    return kinds_of(annotation.value)


def _union(annotations: list[ast.expr]) -> Kinds:
    allowed: set[str] = set()
    for annotation in annotations:
        kinds = kinds_of(annotation)
        if kinds is None:
            return None
        allowed |= kinds
    return frozenset(allowed)


def _last_name(expression: ast.expr) -> str:
    """Return ``Optional`` of ``typing.Optional``; "" if the expression is no name."""
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def describe(kinds: frozenset[str]) -> str:
    """Return kinds as text, for an error message."""
    shown = kinds - {INTEGER} if NUMBER in kinds else kinds
    return " or ".join(sorted(shown))
