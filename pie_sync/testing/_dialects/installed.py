"""What the process protocol knows as programs: how they are named, and how they get onto the server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...events import Event
from .._programs.instance import Instance, Program
from .._server.catalog import DEFAULT_NAMESPACE, LATEST, ProgramName
from .._server.core import Core
from .chunks import Assembly
from .manifest import package_of

__all__ = ["InstalledPrograms", "installed_name"]

DEFAULT_VERSION = "0.1.0"
INSTALLED = "Program installed successfully"
NOT_COMPILED = "Failed to compile WASM: failed to parse WebAssembly module"

_IDENTIFIER = re.compile(r"(?P<name>[A-Za-z0-9_-]+)@(?P<version>[0-9]+\.[0-9]+\.[0-9]+)")

#: The smallest WebAssembly component: nothing but the header.
EMPTY_COMPONENT = b"\0asm\x0d\0\1\0"


class InstalledPrograms:
    """The programs of a server, as one connection of the process protocol sees them.

    A program is called ``name@major.minor.patch``. In the catalog these are the programs of the registry, in the
    namespace that is the default of the instance protocol.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        # What is being uploaded, by the correlation id of its chunks.
        self._uploads: dict[int, Assembly] = {}

    def exists(self, name: str, version: str) -> bool:
        """Say whether there is a program.

        Raises:
            ValueError: nothing can be called that.
        """
        return self._core.catalog.registered(_parse(f"{name}@{version}")) is not None

    def find(self, inferlet: str) -> tuple[str, Program]:
        """Return the full name of a program, and the program.

        Args:
            inferlet: ``name@version``, or the name alone for the highest version.

        Raises:
            ValueError: there is none, or it could not be compiled.
        """
        if "@" in inferlet:
            name = _parse(inferlet)
        else:
            versions = self._core.catalog.versions(DEFAULT_NAMESPACE, inferlet)
            if not versions:
                raise ValueError(f"no program named '{inferlet}' is installed")
            name = ProgramName(DEFAULT_NAMESPACE, inferlet, max(versions, key=_rank))
        program = self._core.catalog.registered(name)
        if program is None:
            raise ValueError(f"program {inferlet} is not installed")
        if isinstance(program, _Uncompiled):
            raise ValueError(NOT_COMPILED)
        return f"{name.name}@{name.version}", program

    def add(self, message: Mapping[str, Any]) -> tuple[bool, str] | None:
        """Take a chunk of a program and, with the last one, install it.

        An upload that fails is forgotten at once, but told only if the chunk is a last one. The next chunk is
        then taken for the first one of a new upload.

        Args:
            message: an ``add_program``.

        Returns:
            The answer: whether it is installed, and the text. None for a chunk that is not answered.
        """
        corr_id, index, total = message["corr_id"], message["chunk_index"], message["total_chunks"]
        upload = self._uploads.setdefault(corr_id, Assembly(message["program_hash"], "Program"))
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
        except ValueError as error:
            raise ValueError(f"Invalid manifest: Failed to parse manifest TOML: {error}") from error
        if not package or "/" in package:
            raise ValueError(f"program {package}@{version} is not installed")
        # Whatever else it is called, it is installed; but only what _parse() takes can be asked for.
        name = ProgramName(DEFAULT_NAMESPACE, package, version)
        # As a real server: if the name is taken, it says yes without a look at the bytes. But it also keeps what
        # it can't compile, and then says so of that name until it is overwritten.
        catalog, replace = self._core.catalog, message["force_overwrite"]
        if replace or catalog.registered(name) is None:
            program = catalog.by_hash(message["program_hash"]) or self._compile(artifact)
            catalog.add_upload(message["program_hash"], program)
            catalog.register(name, program, replace=replace)
        if isinstance(catalog.registered(name), _Uncompiled):
            raise ValueError(NOT_COMPILED)

    def _compile(self, artifact: bytes) -> Program:
        if artifact == EMPTY_COMPONENT:
            return _EmptyComponent()
        try:
            return self._core.compile(artifact)
        except ValueError:
            return _Uncompiled()


class _Uncompiled:
    """What is installed under a name but is no program."""

    def run(self, _instance: Instance) -> tuple[Event, str]:
        raise AssertionError("find() does not give it away")


class _EmptyComponent:
    """A program that can be installed, and launched, but not run."""

    def run(self, _instance: Instance) -> tuple[Event, str]:
        return Event.Exception, "No 'run' interface found"


def installed_name(name: ProgramName) -> ProgramName:
    """Return what a program of the registry is called on the process protocol.

    Raises:
        ValueError: it can't be called that.
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
