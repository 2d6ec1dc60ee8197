"""Checks of a function's source: whether it can run where nothing of its own module is."""

from __future__ import annotations

import ast
import builtins
import inspect
import symtable
import sys
from typing import TYPE_CHECKING, Any

from ..errors import PieValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .source import Definition, FunctionNode

__all__ = ["SERVER_PYTHON", "check_closure", "check_definition"]

#: The Python of pie-language-python 0.5.2.
SERVER_PYTHON = (3, 14)

#: What a module has there besides the builtins of this Python.
_NAMES_THERE = {
    *("__name__", "__file__", "__doc__", "__spec__", "__loader__", "__package__", "__builtins__"),
    # Builtins of that Python which an older one may not have.
    *("aiter", "anext", "EncodingWarning", "BaseExceptionGroup", "ExceptionGroup", "PythonFinalizationError"),
}

_CODE_OF_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def check_closure(function: Any) -> None:
    """Check that a function uses no variable of a function around it.

    Raises:
        PieValueError: it does.
    """
    if function.__code__.co_freevars:
        names = ", ".join(function.__code__.co_freevars)
        raise PieValueError(
            f"{function.__name__}() uses {names} of the function around it, which the server does not have:"
            " pass the value as an argument, or define it inside"
        )


def check_definition(definition: Definition, is_ours: Callable[[ast.expr], bool]) -> None:
    """Check all that the source alone tells.

    Args:
        definition: the function.
        is_ours: whether a decorator is :func:`inferlet`, which stays here.

    Raises:
        PieValueError: the function could not run on the server.
    """
    name = definition.node.name
    for decorator in definition.node.decorator_list:
        if not is_ours(decorator):
            raise PieValueError(
                f"{name}() has the decorator @{ast.unparse(decorator)}, which the server does not have:"
                " leave it out, or apply it inside of the function"
            )
    _check_syntax(definition)
    if _is_generator(definition):
        raise PieValueError(
            f"{name}() yields, but the server only takes what a function returns: send each item with"
            " session.send(), of the server's package inferlet"
        )
    names = sorted(_unbound_names(definition.node))
    if names:
        raise PieValueError(
            f"{name}() uses {', '.join(names)} from outside, which the server does not have: import or define"
            " it inside of the function, or pass it as an argument"
        )


def _check_syntax(definition: Definition) -> None:
    if sys.version_info[:2] <= SERVER_PYTHON:
        return
    try:
        ast.parse(definition.source, feature_version=SERVER_PYTHON)
    except SyntaxError as error:
        version = ".".join(map(str, SERVER_PYTHON))
        raise PieValueError(
            f"{definition.node.name}() has syntax that the server's Python {version} does not know: {error.msg}"
        ) from error


def _is_generator(definition: Definition) -> bool:
    module = compile(definition.source, "<function>", "exec", dont_inherit=True)
    codes = [one for one in module.co_consts if inspect.iscode(one) and one.co_name == definition.node.name]
    return any(code.co_flags & _CODE_OF_GENERATORS for code in codes)


def _unbound_names(node: FunctionNode) -> set[str]:
    """Return the names that neither the function nor the server binds, also those in its defaults."""
    text = ast.unparse(_without_annotations(node))
    read: set[str] = set()
    bound = {node.name, *_NAMES_THERE, *dir(builtins)}
    for scope in _scopes(symtable.symtable(text, "<function>", "exec")):
        for symbol in scope.get_symbols():
            # In the scope of the module every name is global, though its symbol does not say so.
            if symbol.is_global() or scope.get_type() == "module":
                if symbol.is_referenced():
                    read.add(symbol.get_name())
                if symbol.is_assigned() or symbol.is_imported():
                    bound.add(symbol.get_name())
    return read - bound


def _scopes(scope: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield scope
    for child in scope.get_children():
        yield from _scopes(child)


class _Annotations(ast.NodeTransformer):
    """Removes annotations: the server's Python does not evaluate them."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        node.annotation = ast.Constant(None)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def _without_annotations(node: FunctionNode) -> ast.Module:
    copy = ast.parse(ast.unparse(node))
    function = copy.body[0]
    assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
    function.decorator_list = []
    return ast.Module([_Annotations().visit(function)], [])
