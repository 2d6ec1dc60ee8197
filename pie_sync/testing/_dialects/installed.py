"""Programs of the process protocol: their names, and their installation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...events import Event
from .._programs.component import ComponentProgram
from .._programs.instance import Instance, Program
from .._programs.uncompiled import NOT_COMPILED, Uncompiled
from .._server.catalog import DEFAULT_NAMESPACE, LATEST, ProgramName
from .._server.core import Core
from .chunks import ChunkAssembler
from .manifest import language_of, package_of

__all__ = ["InstalledPrograms", "installed_name"]

DEFAULT_VERSION = "0.1.0"
INSTALLED = "Program installed successfully"
#: What 0.5.2 says without a language component, but for the path; then what helps here.
NO_LANGUAGE = (
    "no {0} language component at languages/{0}.wasm: No such file or directory (os error 2);"
    " LocalServer runs no functions or scripts: pie_sync.testing.EngineServer does"
)

NO_RUN = "No 'run' interface found"

_IDENTIFIER = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)@(?P<version>[0-9]+\.[0-9]+\.[0-9]+)")

#: What NAME is in the run export of components for Pie 0.5, ``pie:NAME/run``.
_NAME_FOR_ALL = "inferlet"


class InstalledPrograms:
    """The programs of a server, as one connection of the process protocol sees them.

    A program's name has the form ``name@major.minor.patch``. In the catalog, these programs are in the registry,
    in the default namespace of the instance protocol.

    A component runs if it exports the interface that the server looks for. Without it, the launch is granted all
    the same, and the process ends with an error. Core modules, which no real server of this protocol runs, are
    free of that rule.

    Args:
        core: the state of the server.
        is_gateway: whether this is Pie 0.5, which knows bare names, and runs components that export
            ``pie:inferlet/run``. Older servers run one that exports ``pie:NAME/run`` as NAME.
    """

    def __init__(self, core: Core, *, is_gateway: bool) -> None:
        self._core = core
        self._is_gateway = is_gateway
        # The uploads in progress, by the correlation id of their chunks.
        self._uploads: dict[int, ChunkAssembler] = {}

    def exists(self, name: str, version: str) -> bool:
        """Return whether a program is installed.

        Raises:
            ValueError: the name or the version is invalid.
        """
        return self._core.catalog.registered(_parse(f"{name}@{version}")) is not None

    def find(self, inferlet: str) -> tuple[str, Program]:
        """Return the full name of a program, and the program.

        Args:
            inferlet: ``name@version``, or on Pie 0.5 the name alone for the highest version.

        Raises:
            ValueError: there is no such program, or it could not be compiled.
        """
        if "@" in inferlet or not self._is_gateway:
            name = _parse(inferlet)
        else:
            versions = self._core.catalog.versions(DEFAULT_NAMESPACE, inferlet)
            if not versions:
                raise ValueError(f"no program named '{inferlet}' is installed")
            name = ProgramName(DEFAULT_NAMESPACE, inferlet, max(versions, key=_rank))
        program = self._core.catalog.registered(name)
        if program is None:
            raise ValueError(f"program {inferlet} is not installed")
        if isinstance(program, Uncompiled):
            raise ValueError(NOT_COMPILED)
        run_name = _NAME_FOR_ALL if self._is_gateway else name.name
        if isinstance(program, ComponentProgram):
            program = program.exporting(f"pie:{run_name}/run") or _NoRunInterface()
        return f"{name.name}@{name.version}", program

    def add(self, message: Mapping[str, Any]) -> tuple[bool, str] | None:
        """Append a chunk of a program, and install the program after the last chunk.

        A bad chunk ends its upload, so that the next chunk counts as the first of a new one. As with a real
        server, only a last chunk is answered.

        Args:
            message: an ``add_program``.

        Returns:
            The answer: whether the program is installed, and the text. None for a chunk that is not answered.
        """
        corr_id, index, total = message["corr_id"], message["chunk_index"], message["total_chunks"]
        upload = self._uploads.setdefault(corr_id, ChunkAssembler(message["program_hash"], "Program"))
        try:
            artifact = upload.add(index, total, message["chunk_data"])
            if artifact is None:
                return None
            self._install(message, artifact)
        except ValueError as error:
            del self._uploads[corr_id]
            return (False, str(error)) if index + 1 >= total else None
        del self._uploads[corr_id]
        return True, INSTALLED

    def _install(self, message: Mapping[str, Any], artifact: bytes) -> None:
        try:
            package, version = package_of(message["manifest"])
            language = language_of(message["manifest"]) if self._is_gateway else None
        except ValueError as error:
            raise ValueError(f"Invalid manifest: Failed to parse manifest TOML: {error}") from error
        if not package or "/" in package:
            raise ValueError(f"program {package}@{version} is not installed")
        # Every other name is installed, but only a name that _parse() accepts can be launched.
        name = ProgramName(DEFAULT_NAMESPACE, package, version)
        # A real server does not look at the bytes if the name is taken. It also keeps a program that it can't
        # compile, and then refuses that name until the program is overwritten.
        catalog, replace = self._core.catalog, message["force_overwrite"]
        if replace or catalog.registered(name) is None:
            if language is not None:
                raise ValueError(NO_LANGUAGE.format(language))  # and the name stays free, unlike below
            program = catalog.by_hash(message["program_hash"]) or self._compile(artifact)
            catalog.add_upload(message["program_hash"], program)
            catalog.register(name, program, replace=replace)
        if isinstance(catalog.registered(name), Uncompiled):
            raise ValueError(NOT_COMPILED)

    def _compile(self, artifact: bytes) -> Program:
        try:
            return self._core.compile(artifact)
        except ValueError:
            return Uncompiled()


class _NoRunInterface:
    """Stands for a component without the export that the server looks for."""

    def run(self, _instance: Instance) -> tuple[Event, str]:
        return Event.Exception, NO_RUN


def installed_name(name: ProgramName) -> ProgramName:
    """Return the name on the process protocol of a program of the registry.

    Raises:
        ValueError: the process protocol can't express the name.
    """
    if name.namespace != DEFAULT_NAMESPACE:
        raise ValueError(f"the process protocol has no namespaces: {name}")
    return _parse(f"{name.name}@{DEFAULT_VERSION if name.version == LATEST else name.version}")


def _parse(identifier: str) -> ProgramName:
    match = _IDENTIFIER.fullmatch(identifier)
    if match is None:
        raise ValueError(f"Invalid program identifier '{identifier}': expected 'name@major.minor.patch'")
    return ProgramName(DEFAULT_NAMESPACE, match["name"], match["version"])


def _rank(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()
