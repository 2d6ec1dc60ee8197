"""Where the source of a function comes from: a function object, or a file that is read and not run."""

from __future__ import annotations

import ast
import builtins
import inspect
import os
import re
import symtable
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from .._support.text_files import read_text
from ..errors import PieValueError

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["Definition", "FunctionNode", "definition_of", "definitions_in", "split_script_path"]

FunctionNode = Union[ast.FunctionDef, ast.AsyncFunctionDef]

#: What makes a block of an indented definition. (To remove the indentation would change strings of several lines.)
_BLOCK = "if True:\n"

_SCRIPT = re.compile(r"(?P<path>.*\.py)(?::(?P<function>[^:/\\]*))?", re.DOTALL)


class Definition(NamedTuple):
    """The definition of a function.

    Attributes:
        source: a module that contains it alone, without its decorators.
        node: its syntax tree, with them.
        outside: the names that its module binds, to anything but what Python means by them.
    """

    source: str
    node: FunctionNode
    outside: frozenset[str] = frozenset()


def definition_of(function: Any) -> Definition:
    """Return the definition of a function object.

    Raises:
        TypeError: it is no function that is written in Python.
        PieValueError: its source can't be found.
    """
    if not inspect.isfunction(function):
        what = "a method" if inspect.ismethod(function) else f"a {type(function).__name__}"
        raise TypeError(f"a program must be a function that is written in Python, not {what}: {function!r}")
    code = function.__code__
    name = code.co_name
    if name == "<lambda>":
        raise PieValueError("a lambda has no name to run it by: write a function with def")
    unreadable = PieValueError(
        f"the source of {name}() can't be read, and a function is sent as source: define it in a file or in a"
        " notebook cell, not in an interpreter's prompt and not with exec()"
    )
    try:
        text = inspect.getsource(code)
    except (OSError, TypeError, IndentationError, SyntaxError) as error:
        raise unreadable from error
    module = _BLOCK + text if text[:1] in " \t" else text
    node = _parse_one(module)
    if node is None or node.name != name or not _fits(node, code):
        # Since Python 3.13 that is the name of the text of "python -c", and still what exec() calls what it runs.
        if code.co_filename == "<string>":
            raise unreadable
        raise PieValueError(
            f"{code.co_filename} has changed since {name}() was defined: import it again, or restart Python"
        )
    return Definition(_without_decorators(module, node), node, _names_in_module(function))


def _names_in_module(function: Any) -> frozenset[str]:
    # IPython puts a wrapper around open() there, which is not what the function means.
    return frozenset(
        name
        for name, value in function.__globals__.items()
        if value is not getattr(builtins, name, None)
        and not _is_special(name)
        and not (hasattr(builtins, name) and str(getattr(value, "__module__", "")).startswith("IPython."))
    )


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _parse_one(text: str) -> FunctionNode | None:
    """Return the function that a text, perhaps a block, defines; None if it does not."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return None
    if text.startswith(_BLOCK) and isinstance(body[0], ast.If):
        body = body[0].body
    return body[0] if body and isinstance(body[0], (ast.FunctionDef, ast.AsyncFunctionDef)) else None


def _fits(node: FunctionNode, code: CodeType) -> bool:
    arguments = node.args
    names = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return names == list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


def _without_decorators(module: str, node: FunctionNode) -> str:
    lines = module.split("\n")  # not splitlines(), which also cuts at form feeds in strings
    assert node.end_lineno is not None
    text = "\n".join(lines[node.lineno - 1 : node.end_lineno]) + "\n"
    return _BLOCK + text if text[:1] in " \t" else text


def split_script_path(program: str) -> tuple[str, str | None] | None:
    """Take ``path.py`` or ``path.py:function`` apart; None if ``program`` is neither."""
    match = _SCRIPT.fullmatch(program)
    return None if match is None else (match["path"], match["function"])


def definitions_in(path: str | os.PathLike[str]) -> dict[str, Definition]:
    """Return the functions that a Python file defines at its top level, by name. The file is not run.

    Raises:
        PieValueError: the file is not Python in UTF-8.
        OSError: the file can't be read.
    """
    text = read_text(path)
    try:
        tree = ast.parse(text, filename=os.fspath(path))
        symbols = symtable.symtable(text, os.fspath(path), "exec").get_symbols()
    except (SyntaxError, ValueError) as error:
        raise PieValueError(f"{os.fspath(path)} is not Python: {error}") from error
    outside = frozenset(
        symbol.get_name()
        for symbol in symbols
        if (symbol.is_assigned() or symbol.is_imported()) and not _is_special(symbol.get_name())
    )
    return {
        node.name: Definition(_without_decorators(text, node), node, outside)
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
