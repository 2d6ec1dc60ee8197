"""``@inferlet``: a Python function as a program for the server."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar, overload

from .checks import check_closure, check_definition
from .manifest import check_name, check_version, content_version, manifest_text
from .signature import Signature
from .source import Definition, definition_of

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from typing_extensions import ParamSpec

    P = ParamSpec("P")
elif sys.version_info >= (3, 10):
    from typing import ParamSpec  # novermin - guarded by the line above

    P = ParamSpec("P")
else:
    P = TypeVar("P")

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

__all__ = ["Inferlet", "inferlet"]


class Inferlet(Generic[P, R_co]):
    """A Python function that runs on the server, next to the model. Made by :func:`inferlet`; immutable.

    :meth:`PieClient.run`, ``map``, ``launch`` and ``run_batch`` take it, and upload its source if the server does
    not have it. Calling it calls the function here, as if it were not decorated.

    Attributes:
        name: the program's name on the server.
        version: its version. Unless it was given, it is made from the source and the manifest: an edited function
            is another program, an unchanged one is never uploaded again.
        entry: the function's own name.
        source: what is sent: the function's definition without its decorators.
        description: the first line of its docstring; None if there is none.
        is_content_addressed: whether the version was made from the contents.
    """

    def __init__(
        self,
        definition: Definition,
        function: Callable[..., Any] | None,
        *,
        name: str | None,
        version: str | None,
        description: str | None,
    ) -> None:
        node = definition.node
        self._function = function
        self._signature = Signature(node)
        self.entry: str = node.name
        self.source: str = definition.source
        hint = "" if name is not None else '; @inferlet(name="...") gives it another one'
        self.name: str = check_name(node.name.strip("_").replace("_", "-") if name is None else name, hint)
        self.description: str | None = _first_line(ast.get_docstring(node)) if description is None else description
        self.is_content_addressed: bool = version is None
        if version is None:
            version = content_version(self.source, self._manifest(""))
        self.version: str = check_version(version)
        if function is not None:
            functools.update_wrapper(self, function, updated=())  # its attributes are not ours

    def _manifest(self, version: str) -> str:
        return manifest_text(self.name, version, self.entry, self.description, self._signature)

    @property
    def program(self) -> str:
        """Its ``name@version``, by which the server knows it."""
        return f"{self.name}@{self.version}"

    def manifest_toml(self) -> str:
        """Return the manifest that is sent with the source, as TOML."""
        return self._manifest(self.version)

    def args(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """Return the arguments of a call in the form that a launch takes.

        A type checker sees here whether they fit::

            client.run(complete, complete.args("Hello", max_tokens=8), timeout=60)

        Raises:
            TypeError: they don't fit the function's signature.
        """
        return self._signature.bind(args, kwargs)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function here. An ``async`` one returns its coroutine."""
        if self._function is None:
            raise TypeError(f"{self.entry}() was read from a file, and can't be called here: import it instead")
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Inferlet {self.program}>"

    def __reduce__(self) -> str:
        # Pickled as a function is: by the place where it can be imported.
        if self._function is None:
            raise TypeError(f"{self!r} was read from a file, and can't be pickled")
        return self._function.__qualname__


@overload
def inferlet(function: Callable[P, Coroutine[Any, Any, R]], /) -> Inferlet[P, R]: ...
@overload
def inferlet(function: Callable[P, R], /) -> Inferlet[P, R]: ...
@overload
def inferlet(
    *, name: str | None = ..., version: str | None = ..., description: str | None = ...
) -> _Decorator: ...
def inferlet(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    version: str | None = None,
    description: str | None = None,
) -> Any:
    """Make a program for the server of a Python function, with ``@inferlet`` or ``@inferlet(name=...)``.

    The function's source is sent, so the function must be complete in itself: it imports inside what it uses, and
    gets everything else as arguments. What it can't take along is an error here, before anything is sent. The
    server runs it with Python 3.14, and has the package ``inferlet`` there. An annotation is neither evaluated on
    the server nor needed; those of JSON's own types (``str``, ``int``, ``float``, ``bool``, ``list``, ``dict``,
    also optional) tell which arguments fit.

    Args:
        function: a function, or a coroutine function, that is defined in a file or in a notebook cell.
        name: the program's name on the server. Default: the function's, with dashes for underscores.
        version: three numbers, such as ``"1.2.0"``. Default: made from the source. A version that you give can't
            have another source later.
        description: one line for the manifest. Default: the first of the docstring.

    Raises:
        TypeError: it is no function that is written in Python.
        ValueError: its source can't be read; it uses a name from outside of it; it has another decorator, yields,
            or has parameters that the server can't pass; the name or the version is none.
    """
    if function is None:
        return functools.partial(_make, name=name, version=version, description=description)
    return _make(function, name=name, version=version, description=description)


if TYPE_CHECKING:
    from typing import Protocol

    class _Decorator(Protocol):
        @overload
        def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Inferlet[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, R], /) -> Inferlet[P, R]: ...
        def __call__(self, function: Any, /) -> Any: ...


def _make(
    function: Callable[..., Any], *, name: str | None, version: str | None, description: str | None
) -> Inferlet[..., Any]:
    definition = definition_of(function)
    check_closure(function)

    def is_ours(decorator: ast.expr) -> bool:
        return _resolved(decorator, function) is inferlet or _last_name(decorator) == inferlet.__name__

    check_definition(definition, is_ours)
    return Inferlet(definition, function, name=name, version=version, description=description)


def _resolved(decorator: ast.expr, function: Callable[..., Any]) -> Any:
    """Return what the name of a decorator means in the function's module; None if that can't be said."""
    expression = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(expression, ast.Attribute):
        return getattr(_resolved(expression.value, function), expression.attr, None)
    if isinstance(expression, ast.Name):
        return inspect.unwrap(function).__globals__.get(expression.id)
    return None


def _last_name(decorator: ast.expr) -> str:
    expression = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def _first_line(doc: str | None) -> str | None:
    lines = (doc or "").strip().splitlines()
    return lines[0].strip() if lines else None
