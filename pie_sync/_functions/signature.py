"""The parameters of a function: what the manifest says of them, and which arguments fit."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .._protocol.arguments import POSITIONAL
from ..errors import PieValueError
from ..events import ResultForm
from .command_words import parse_words
from .json_kinds import BOOLEAN, INTEGER, NULL, NUMBER, STRING, Kinds, describe, kind_of, kinds_of

__all__ = ["Parameter", "Signature"]

_TEXT = frozenset({STRING})

#: The types that a manifest knows. Pie 0.5.2 refuses any other.
_MANIFEST_TYPES = {
    _TEXT: "string",
    frozenset({INTEGER}): "int",
    frozenset({INTEGER, NUMBER}): "float",
    frozenset({BOOLEAN}): "bool",
}


class Parameter(NamedTuple):
    """A parameter of a function.

    Attributes:
        name: its name.
        kinds: the kinds of JSON values that its annotation allows; None allows all.
        default: the source of its default value; None if an argument is needed.
        is_keyword_only: whether it stands behind a ``*``.
    """

    name: str
    kinds: Kinds
    default: str | None
    is_keyword_only: bool

    @property
    def manifest_type(self) -> str | None:
        """The type that the manifest gives it; None if a manifest can't express it."""
        return None if self.kinds is None else _MANIFEST_TYPES.get(self.kinds - {NULL})


class Signature:
    """The signature of a function, read from its source.

    Args:
        node: the function's definition.

    Attributes:
        parameters: by name. Without ``*args``, which never get anything, and ``**kwargs``.
        takes_any: whether there is ``**kwargs``, which takes arguments of all other names.
        returns: the kinds of its result.

    Raises:
        PieValueError: the server can't call such a function.
    """

    def __init__(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._function = node.name
        given = node.args
        if given.posonlyargs:
            names = ", ".join(argument.arg for argument in given.posonlyargs)
            raise PieValueError(
                f"{node.name}() has positional-only parameters ({names}), but a server passes arguments by name:"
                " leave out the / in its signature"
            )
        defaults = [None] * (len(given.args) - len(given.defaults)) + list(given.defaults)
        parameters = [_parameter(argument, default) for argument, default in zip(given.args, defaults)]
        parameters += [
            _parameter(argument, default, is_keyword_only=True)
            for argument, default in zip(given.kwonlyargs, given.kw_defaults)
        ]
        self.parameters = {parameter.name: parameter for parameter in parameters}
        self.takes_any = given.kwarg is not None
        self.returns = kinds_of(node.returns)

    @property
    def result_form(self) -> ResultForm:
        """The form of the function's result: Pie 0.5 sends a string as it is, and all else as JSON."""
        if self.returns is None or STRING not in self.returns:
            return ResultForm.JSON
        if self.returns <= {STRING, NULL}:
            return ResultForm.TEXT if self.returns == _TEXT else ResultForm.TEXT_OR_NONE
        return ResultForm.JSON_OR_TEXT

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call as a mapping, checked.

        Raises:
            TypeError: they don't fit.
        """
        names = [one.name for one in self.parameters.values() if not one.is_keyword_only]
        if len(args) > len(names):
            raise TypeError(f"{self._function}() takes {len(names)} positional arguments, got {len(args)}")
        bound = dict(zip(names, args))
        for name in kwargs:
            if name in bound:
                raise TypeError(f"{self._function}() got two values for {name!r}")
        return self.check({**bound, **kwargs})

    def check(self, args: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a launch as a mapping, checked.

        Args:
            args: a mapping, or a list of strings as on a command line; see :func:`parse_words`.

        Raises:
            TypeError: they don't fit the signature.
        """
        if not isinstance(args, Mapping):
            kinds = {name: one.kinds for name, one in self.parameters.items()}
            try:
                args = parse_words(args, kinds)
            except TypeError as error:
                raise TypeError(f"{self._function}(): {error}") from None
            if POSITIONAL in args and POSITIONAL not in self.parameters:
                values = ", ".join(map(repr, args[POSITIONAL]))
                raise TypeError(
                    f"{self._function}() takes its arguments by name, got {values} without one: {self._usage()}"
                )
        for name, value in args.items():
            if not isinstance(name, str):
                raise TypeError(f"the names in args must be str, not {type(name).__name__}")
            parameter = self.parameters.get(name)
            if parameter is not None:
                self._check_value(parameter, value)
            elif not self.takes_any:
                raise TypeError(f"{self._function}() has no parameter {name!r}: {self._usage()}")
            else:
                self._check_json(name, value)
        missing = [one.name for one in self.parameters.values() if one.default is None and one.name not in args]
        if missing:
            names = ", ".join(map(repr, missing))
            raise TypeError(f"{self._function}() needs {names}: {self._usage()}")
        return dict(args)

    def _check_value(self, parameter: Parameter, value: Any) -> None:
        kind = kind_of(value)
        if parameter.kinds is not None and kind not in parameter.kinds:
            raise TypeError(
                f"{self._function}(): {parameter.name!r} must be {describe(parameter.kinds)},"
                f" not {kind or type(value).__name__}"
            )
        self._check_json(parameter.name, value)

    def _check_json(self, name: str, value: Any) -> None:
        # Few scalars need a test. A list may hold anything.
        if type(value) in (int, bool, type(None)) or (type(value) is str and value.isascii()):
            return
        try:
            # Half a surrogate pair, which can't be encoded, would end the server's Python.
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            raise TypeError(f"{self._function}(): {name!r} is not serialisable as JSON: {error}") from error

    def _usage(self) -> str:
        names = [one.name if one.default is None else f"{one.name}={one.default}" for one in self._all()]
        return f"its parameters are {', '.join(names)}" if names else "it has no parameters"

    def _all(self) -> list[Parameter]:
        return list(self.parameters.values())


def _parameter(argument: ast.arg, default: ast.expr | None, *, is_keyword_only: bool = False) -> Parameter:
    kinds = kinds_of(argument.annotation)
    if kinds is not None and isinstance(default, ast.Constant) and default.value is None:
        kinds |= {NULL}  # "limit: int = None" is what many write
    text = None if default is None else ast.unparse(default)
    return Parameter(argument.arg, kinds, text, is_keyword_only)
