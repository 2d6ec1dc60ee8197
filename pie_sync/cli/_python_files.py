"""Python files as programs of a LocalServer: each has a function ``main(context)``.

Other Python files have functions that run on the real server, next to the model. Here both kinds are told apart.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any, Callable

from ._failures import Failure

__all__ = ["PythonFileError", "check_is_for_engine", "has_main", "load_main"]

MAIN = "main"


class PythonFileError(Exception):
    """The file can't be served; the text says why."""


def has_main(path: Path) -> bool:
    """Whether a file defines a ``main`` with one parameter. Reads the file, and does not run it."""
    try:
        return _main_of(path) is not None
    except (OSError, SyntaxError, ValueError):
        return True  # load_main() says what is wrong


def check_is_for_engine(path: Path, function: str | None) -> None:
    """Raise a :class:`Failure` if a function is a program of ``pie-sync serve`` by its parameter.

    Args:
        path: a Python file, which is read and not run.
        function: the name of a function there; None: whichever it has. A function that is named may call its
            parameter ``context``.
    """
    if function not in (None, MAIN):
        return
    try:
        main = _main_of(path)
    except (OSError, SyntaxError, ValueError):
        return  # whoever loads the function says what is wrong
    if main is None or main.decorator_list:
        return
    parameter = [*main.args.posonlyargs, *main.args.args][0]
    if parameter.annotation is None:
        is_served = function is None and parameter.arg == "context"
    else:
        is_served = "ProgramContext" in ast.unparse(parameter.annotation)
    if is_served:
        raise Failure(
            f"{path} is a program for `pie-sync serve`: its main() takes a ProgramContext",
            f"`pie-sync serve {path}` serves it; then `pie-sync run {path.stem}` runs it",
        )


def _main_of(path: Path) -> ast.FunctionDef | None:
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.FunctionDef) and node.name == MAIN and _is_unary(node.args):
            return node
    return None


def _is_unary(arguments: ast.arguments) -> bool:
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    required_keywords = [default for default in arguments.kw_defaults if default is None]
    return bool(positional) and required <= 1 and not required_keywords


def load_main(path: Path) -> Callable[[Any], object]:
    """Run a file as a module, and return its function ``main``.

    The module finds others in its own folder, as a script does.

    Raises:
        PythonFileError: the file can't be run, or has no such function.
    """
    if not has_main(path):
        raise PythonFileError(f"it has no function {MAIN}(context)")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # A name that no other module has: a file may be called like one of Python's own.
    name = f"pie_sync_served_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PythonFileError(f"{type(error).__name__}: {error}") from error
    function: Callable[[Any], object] = getattr(module, MAIN)
    return function
