"""Programs of the process protocol: their names, and their installation."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from blake3 import blake3

from ...errors import PieValueError
from ...events import Event
from .._programs.component import ComponentProgram
from .._programs.instance import Instance, Program
from .._programs.uncompiled import NOT_COMPILED, Uncompiled
from .._server.catalog import DEFAULT_NAMESPACE, LATEST, ProgramName
from .._server.core import Core, NotInstalledError
from .chunks import ChunkAssembler, OldChunkAssembler
from .manifest import language_of, package_of
from .programs import NoRunInterface
from .registry import manifest_failure

__all__ = ["PROGRAM_RULES", "InstalledPrograms", "ProgramRules", "installed_name"]

DEFAULT_VERSION = "0.1.0"

#: What 0.5.2 says without a language component, but for the path; then what helps here.
NO_LANGUAGE = (
    "no {0} language component at languages/{0}.wasm: No such file or directory (os error 2);"
    " LocalServer runs no functions or scripts: pie_sync.testing.EngineServer does"
)

_IDENTIFIER = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)@(?P<version>[0-9]+\.[0-9]+\.[0-9]+)")


class ProgramRules(NamedTuple):
    """How servers of one generation name, install and find programs."""

    installed: str
    """The answer to an upload that succeeded."""
    compiles_uploads: bool
    """Whether an upload is compiled at once, and refused if it can't be. Else its first launch compiles it, and
    from then on nothing replaces it."""
    compares_hashes: bool
    """Whether the bytes of an upload must have the hash that the client declares."""
    answers_every_bad_chunk: bool
    """Whether a bad chunk is answered at once, and each later one of its upload; else a last one only."""
    checks_names: bool
    """Whether an upload is refused whose name could not be launched."""
    knows_bare_names: bool
    """Whether a name without a version stands for its highest version."""
    knows_scripts: bool
    """Whether a manifest may tell the language of a script, in place of a component."""
    run_name: str | None
    """NAME in the export ``pie:NAME/run`` under which a component runs; None for the program's own name."""


PROGRAM_RULES = {
    "0.3": ProgramRules("Program added successfully", False, False, True, True, False, False, None),
    "0.4": ProgramRules("Program installed successfully", True, False, True, True, False, False, None),
    "0.5": ProgramRules("Program installed successfully", True, True, False, False, True, True, "inferlet"),
}


class InstalledPrograms:
    """The programs of a server, as one connection of the process protocol sees them.

    A program's name has the form ``name@major.minor.patch``. In the catalog, these programs are in the registry,
    in the default namespace of the instance protocol.

    A component runs if it exports the interface that the server looks for. Without it, the launch is granted all
    the same, and the process ends with an error. Core modules, which no real server of this protocol runs, are
    free of that rule, and so are Python functions.

    Args:
        core: the state of the server.
        rules: what differs between generations.
    """

    def __init__(self, core: Core, rules: ProgramRules) -> None:
        self._core = core
        self._rules = rules
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
        name = self._full_name(inferlet)
        program = self._core.catalog.registered(name)
        if program is None:
            if self._rules.knows_bare_names:
                raise ValueError(f"program {inferlet} is not installed")
            raise ValueError(manifest_failure(name.name, name.version))
        if isinstance(program, _Lazy):
            program = program.compiled(self._compile)
        if isinstance(program, Uncompiled):
            raise ValueError(NOT_COMPILED)
        if isinstance(program, ComponentProgram):
            run_name = self._rules.run_name or name.name
            program = program.exporting(f"pie:{run_name}/run") or NoRunInterface()
        return f"{name.name}@{name.version}", program

    def add(self, message: Mapping[str, Any]) -> tuple[bool, str] | None:
        """Append a chunk of a program, and install the program after the last chunk.

        A bad chunk ends its upload, so that the next chunk counts as the first of a new one.

        Args:
            message: an ``add_program``.

        Returns:
            The answer: whether the program is installed, and the text. None for a chunk that is not answered.
        """
        corr_id, index, total = message["corr_id"], message["chunk_index"], message["total_chunks"]
        upload = self._uploads.get(corr_id) or self._new_upload(message["program_hash"])
        self._uploads[corr_id] = upload
        try:
            artifact = upload.add(index, total, message["chunk_data"])
            if artifact is None:
                return None
            self._install(message, artifact)
        except ValueError as error:
            del self._uploads[corr_id]
            answers = self._rules.answers_every_bad_chunk or index + 1 >= total
            return (False, str(error)) if answers else None
        del self._uploads[corr_id]
        return True, self._rules.installed

    def _new_upload(self, program_hash: str) -> ChunkAssembler:
        if self._rules.compares_hashes:
            return ChunkAssembler(program_hash, "Program")
        return OldChunkAssembler(None, "Program")

    def _full_name(self, inferlet: str) -> ProgramName:
        if "@" in inferlet or not self._rules.knows_bare_names:
            return _parse(inferlet)
        versions = self._core.catalog.versions(DEFAULT_NAMESPACE, inferlet)
        if not versions:
            raise ValueError(f"no program named '{inferlet}' is installed")
        return ProgramName(DEFAULT_NAMESPACE, inferlet, max(versions, key=_rank))

    def _install(self, message: Mapping[str, Any], artifact: bytes) -> None:
        try:
            package, version = package_of(message["manifest"])
            language = language_of(message["manifest"]) if self._rules.knows_scripts else None
        except ValueError as error:
            raise ValueError(f"Invalid manifest: Failed to parse manifest TOML: {error}") from error
        if self._rules.checks_names:
            _parse(f"{package}@{version}")
        elif not package or "/" in package:
            raise ValueError(f"program {package}@{version} is not installed")
        # Where names are not checked, every other one is installed, but only one that _parse() accepts can be
        # launched.
        name = ProgramName(DEFAULT_NAMESPACE, package, version)
        catalog, replace = self._core.catalog, message["force_overwrite"]
        there = catalog.registered(name)
        if not self._rules.compiles_uploads:
            if there is None or (replace and not (isinstance(there, _Lazy) and there.is_compiled)):
                catalog.register(name, _Lazy(artifact))
            return
        # A real server does not look at the bytes if the name is taken. It also keeps a program that it can't
        # compile, and then refuses that name until the program is overwritten.
        if replace or there is None:
            if language is not None:
                raise ValueError(NO_LANGUAGE.format(language))  # and the name stays free, unlike below
            program_hash = blake3(artifact).hexdigest()
            program = catalog.by_hash(program_hash) or self._compile(artifact)
            catalog.add_upload(program_hash, program)
            catalog.register(name, program, replace=replace)
        if isinstance(catalog.registered(name), Uncompiled):
            raise ValueError(NOT_COMPILED)

    def _compile(self, artifact: bytes) -> Program:
        try:
            return self._core.compile(artifact)
        except NotInstalledError:
            raise
        except ValueError:
            return Uncompiled()


class _Lazy:
    """The bytes of an upload that are compiled at their first launch."""

    def __init__(self, artifact: bytes) -> None:
        self._artifact = artifact
        self._program: Program | None = None
        # Guards _program.
        self._lock = threading.Lock()

    @property
    def is_compiled(self) -> bool:
        """Whether the program was launched, or could not be."""
        return self._program is not None

    def compiled(self, compile_program: Callable[[bytes], Program]) -> Program:
        """Return the program in the bytes."""
        with self._lock:
            if self._program is None:
                self._program = compile_program(self._artifact)
            return self._program

    def run(self, _instance: Instance) -> tuple[Event, str]:
        """Must not be called."""
        raise AssertionError("find() never returns it")


def installed_name(name: ProgramName) -> ProgramName:
    """Return the name on the process protocol of a program of the registry.

    Raises:
        ValueError: the process protocol can't express the name.
    """
    if name.namespace != DEFAULT_NAMESPACE:
        raise PieValueError(f"the process protocol has no namespaces: {name}")
    return _parse(f"{name.name}@{DEFAULT_VERSION if name.version == LATEST else name.version}")


def _parse(identifier: str) -> ProgramName:
    match = _IDENTIFIER.fullmatch(identifier)
    if match is None:
        raise ValueError(f"Invalid program identifier '{identifier}': expected 'name@major.minor.patch'")
    return ProgramName(DEFAULT_NAMESPACE, match["name"], match["version"])


def _rank(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()
