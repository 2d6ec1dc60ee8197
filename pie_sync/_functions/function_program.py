"""What a user may give for a function: an inferlet, also of the official client, a function, or a Python file."""

from __future__ import annotations

import ast
import inspect
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from .._protocol.program_names import ProgramName, parse_name
from .inferlet import Inferlet, inferlet
from .manifest import content_version
from .script import load_script
from .signature import Signature
from .source import split_script_path

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FunctionProgram", "RemoteFunction", "function_program"]


@runtime_checkable
class RemoteFunction(Protocol):
    """An inferlet of Pie's official client, or whatever looks like one."""

    @property
    def program(self) -> str:
        """Its ``name@version``."""

    @property
    def source(self) -> str:
        """Its Python source."""

    def manifest_toml(self) -> str:
        """Return its manifest."""


class FunctionProgram(NamedTuple):
    """A function, ready to be installed.

    Attributes:
        program: the name and the version to install it under.
        source: its Python source.
        manifest: its manifest, perhaps with another version.
        is_content_addressed: whether the version was made from the source and the manifest, so that nothing else
            has it.
        signature: its parameters; None if they are not known.
    """

    program: ProgramName
    source: str
    manifest: str
    is_content_addressed: bool
    signature: Signature | None


#: The plain functions that were used before: reading and checking one takes a millisecond.
_plain: WeakKeyDictionary[Callable[..., Any], FunctionProgram] = WeakKeyDictionary()


def function_program(program: Any) -> FunctionProgram | None:
    """Return the function that ``program`` is; None if it is something else.

    Raises:
        TypeError, ValueError: the function can't run on a server.
        OSError: the file can't be read.
    """
    if isinstance(program, Inferlet):
        return _own(program)
    if isinstance(program, (str, os.PathLike)):
        path = split_script_path(os.fspath(program))
        return None if path is None else _own(load_script(*path))
    if isinstance(program, RemoteFunction):
        return _remote(program)
    if inspect.isroutine(program):
        found = _plain.get(program)
        if found is None:
            found = _plain[program] = _own(inferlet(program))
        return found
    return None


def _own(program: Inferlet[..., Any]) -> FunctionProgram:
    return FunctionProgram(
        ProgramName(program.name, program.version),
        program.source,
        program.manifest_toml(),
        program.is_content_addressed,
        program._signature,
    )


def _remote(program: RemoteFunction) -> FunctionProgram:
    # Its version has 32 bits of a hash, or is the user's; and the other client may have installed it already, with
    # no way to tell with which bytes. So it gets a version of ours.
    name = parse_name(program.program).name
    source, manifest = program.source, program.manifest_toml()
    version = ProgramName(name, content_version(source, manifest))
    return FunctionProgram(version, source, manifest, True, _signature_of(source))


def _signature_of(source: str) -> Signature | None:
    """Return the signature of the only function in a source; None if there is another number of them."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return None
    functions = [node for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return Signature(functions[0]) if len(functions) == 1 else None
