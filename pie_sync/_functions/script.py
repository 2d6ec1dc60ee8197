"""Inferlets in Python files, which are read and never run."""

from __future__ import annotations

import ast
import os
from typing import TYPE_CHECKING, Any

from ..errors import PieValueError
from .checks import check_definition
from .inferlet import Inferlet
from .source import definitions_in

if TYPE_CHECKING:
    from .source import Definition, FunctionNode

__all__ = ["load_decorated", "load_script"]

_OPTIONS = ("name", "version", "description")


def load_script(path: str | os.PathLike[str], function: str | None = None) -> Inferlet[..., Any]:
    """Return an inferlet of a Python file.

    The file is not run: nothing that it imports need be installed. So the options of ``@inferlet(...)`` must be
    literals there.

    Args:
        path: the file.
        function: the name of the function, decorated or not. None: the only one that is decorated; else the only
            one that the file defines.

    Raises:
        PieValueError: there is no such function, or more than one, or it can't run on the server.
        OSError: the file can't be read.
    """
    definitions = definitions_in(path)
    name = os.fspath(path)
    if function is None:
        decorated = [one for one, definition in definitions.items() if _decorator(definition.node) is not None]
        candidates = decorated or list(definitions)
        if not candidates:
            raise PieValueError(f"{name} defines no function")
        if len(candidates) > 1:
            choices = ", ".join(f"{name}:{candidate}" for candidate in candidates)
            raise PieValueError(f"{name} defines several functions: say which one, of {choices}")
        function = candidates[0]
    if function not in definitions:
        known = ", ".join(definitions) or "none"
        raise PieValueError(f"{name} defines no function {function!r} (it has {known})")
    return _inferlet(definitions[function])


def load_decorated(path: str | os.PathLike[str]) -> list[Inferlet[..., Any]]:
    """Return all inferlets of a Python file that are marked with ``@inferlet``, in their order there.

    Raises:
        PieValueError: the file is not Python in UTF-8, or one of them can't run on the server.
        OSError: the file can't be read.
    """
    definitions = definitions_in(path).values()
    return [_inferlet(definition) for definition in definitions if _decorator(definition.node) is not None]


def _inferlet(definition: Definition) -> Inferlet[..., Any]:
    decorator = _decorator(definition.node)
    check_definition(definition, lambda one: one is decorator)
    options: dict[str, Any] = dict.fromkeys(_OPTIONS)
    if isinstance(decorator, ast.Call):
        for keyword in decorator.keywords:
            try:
                options[keyword.arg or "**"] = ast.literal_eval(keyword.value)
            except ValueError:
                raise PieValueError(
                    f"{definition.node.name}(): {keyword.arg} must be a literal in @inferlet(...),"
                    " since the file is not run"
                ) from None
        if decorator.args or set(options) - set(_OPTIONS):
            raise PieValueError(f"@{ast.unparse(decorator)}: the options are {', '.join(_OPTIONS)}")
    return Inferlet(definition, None, **options)


def _decorator(node: FunctionNode) -> ast.expr | None:
    """Return the decorator ``@inferlet`` of a function; None if there is none."""
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
        if name == "inferlet":
            return decorator
    return None
