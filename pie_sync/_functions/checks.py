"""Checks of a function's source: whether it can run where nothing of its own module is."""

from __future__ import annotations

import ast
import inspect
import symtable
import sys
from typing import TYPE_CHECKING, Any

from ..errors import PieValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .source import Definition, FunctionNode

__all__ = ["BUILTINS_THERE", "SERVER_PYTHON", "check_closure", "check_definition"]

#: The Python of pie-language-python 0.5.2.
SERVER_PYTHON = (3, 14)

#: Its builtins: those of another Python may be others, and IPython adds some.
BUILTINS_THERE = frozenset(
    """
    ArithmeticError AssertionError AttributeError BaseException BaseExceptionGroup BlockingIOError BrokenPipeError
    BufferError BytesWarning ChildProcessError ConnectionAbortedError ConnectionError ConnectionRefusedError
    ConnectionResetError DeprecationWarning EOFError Ellipsis EncodingWarning EnvironmentError Exception
    ExceptionGroup False FileExistsError FileNotFoundError FloatingPointError FutureWarning GeneratorExit IOError
    ImportError ImportWarning IndentationError IndexError InterruptedError IsADirectoryError KeyError
    KeyboardInterrupt LookupError MemoryError ModuleNotFoundError NameError None NotADirectoryError NotImplemented
    NotImplementedError OSError OverflowError PendingDeprecationWarning PermissionError ProcessLookupError
    PythonFinalizationError RecursionError ReferenceError ResourceWarning RuntimeError RuntimeWarning
    StopAsyncIteration StopIteration SyntaxError SyntaxWarning SystemError SystemExit TabError TimeoutError True
    TypeError UnboundLocalError UnicodeDecodeError UnicodeEncodeError UnicodeError UnicodeTranslateError
    UnicodeWarning UserWarning ValueError Warning ZeroDivisionError __build_class__ __debug__ __doc__ __import__
    __loader__ __name__ __package__ __spec__ abs aiter all anext any ascii bin bool breakpoint bytearray bytes
    callable chr classmethod compile complex copyright credits delattr dict dir divmod enumerate eval exec exit
    filter float format frozenset getattr globals hasattr hash help hex id input int isinstance issubclass iter len
    license list locals map max memoryview min next object oct open ord pow print property quit range repr reversed
    round set setattr slice sorted staticmethod str sum super tuple type vars zip
    """.split()  # noqa: SIM905 - thirty times as long as a list
)

#: What a module has there besides.
_NAMES_THERE = BUILTINS_THERE | {"__builtins__", "__file__"}

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
    """Check all that can be known of a function before it runs.

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
    names = sorted(_unbound_names(definition))
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


def _unbound_names(definition: Definition) -> set[str]:
    """Return the names that neither the function nor the server binds, also those in its defaults."""
    node = definition.node
    tree = _without_annotations(node)
    read: set[str] = set()
    bound = {node.name}
    for scope in _scopes(symtable.symtable(ast.unparse(tree), "<function>", "exec")):
        for symbol in scope.get_symbols():
            # In the scope of the module every name is global, though its symbol does not say so.
            if symbol.is_global() or scope.get_type() == "module":
                if symbol.is_referenced():
                    read.add(symbol.get_name())
                if symbol.is_assigned() or symbol.is_imported():
                    bound.add(symbol.get_name())
    there = (_NAMES_THERE | bound) - definition.outside - _only_changed(tree) | {node.name}
    return read - there


def _only_changed(tree: ast.AST) -> set[str]:
    """Return the variables that are changed, as by ``+=``, and set nowhere."""
    changes = [one.target for one in ast.walk(tree) if isinstance(one, ast.AugAssign)]
    names = [one for one in ast.walk(tree) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
    return {one.id for one in names if one in changes} - {one.id for one in names if one not in changes}


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
