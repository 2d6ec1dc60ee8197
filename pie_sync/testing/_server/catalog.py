"""The programs of a server and their names."""

from __future__ import annotations

import re
import threading
from typing import NamedTuple

from ...errors import PieValueError
from .._programs.instance import Program

__all__ = ["DEFAULT_NAMESPACE", "LATEST", "Catalog", "ProgramName"]

DEFAULT_NAMESPACE = "std"
LATEST = "latest"

_NAME = re.compile(r"(?:(?P<namespace>[^/@#\s]+)/)?(?P<name>[^/@#\s]+)(?:@(?P<version>[^/@#\s]+))?")


class ProgramName(NamedTuple):
    """``namespace/name@version``."""

    namespace: str
    name: str
    version: str

    @classmethod
    def split(cls, text: str) -> ProgramName:
        """Split any text at its first ``@`` and at the first ``/`` before that; the defaults are as in parse()."""
        full_name, at, version = text.partition("@")
        namespace, slash, name = full_name.partition("/")
        return cls(
            namespace if slash else DEFAULT_NAMESPACE, name if slash else namespace, version if at else LATEST
        )

    @classmethod
    def parse(cls, text: str) -> ProgramName:
        """Parse ``[namespace/]name[@version]``; the defaults are ``std`` and ``latest``.

        Raises:
            PieValueError: ``text`` does not have that form.
        """
        match = _NAME.fullmatch(text)
        if match is None:
            raise PieValueError(f"not a program name of the form [namespace/]name[@version]: {text!r}")
        return cls(match["namespace"] or DEFAULT_NAMESPACE, match["name"], match["version"] or LATEST)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}@{self.version}"


class _VersionedPrograms:
    """Programs by name and version."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[str, Program]] = {}

    def put(self, name: ProgramName, program: Program) -> None:
        versions = self._versions.setdefault(f"{name.namespace}/{name.name}", {})
        versions.pop(name.version, None)  # a replaced version becomes the newest
        versions[name.version] = program

    def get(self, name: ProgramName, *, resolve_latest: bool = True) -> Program | None:
        versions = self._versions.get(f"{name.namespace}/{name.name}", {})
        if not resolve_latest:
            return versions.get(name.version)
        if name.version == LATEST and LATEST not in versions:
            return list(versions.values())[-1] if versions else None
        return versions.get(name.version)

    def versions(self, namespace: str, name: str) -> list[str]:
        return list(self._versions.get(f"{namespace}/{name}", ()))


class Catalog:
    """The programs of a server: uploaded ones, which all users share, and those of the registry.

    In the registry, ``latest`` means the version with that name or, if there is none, the version that was added
    last. Among the uploaded programs, ``latest`` is a version like any other. Safe to use from any thread.
    """

    def __init__(self) -> None:
        self._by_hash: dict[str, Program] = {}
        self._uploaded = _VersionedPrograms()
        self._registry = _VersionedPrograms()
        # Guards the three above.
        self._lock = threading.Lock()

    def register(self, name: ProgramName, program: Program, *, replace: bool = True) -> None:
        """Add a program to the registry, unless ``replace`` is false and the name and version are taken."""
        with self._lock:
            if replace or self._registry.get(name) is None:
                self._registry.put(name, program)

    def add_upload(self, program_hash: str, program: Program, name: ProgramName | None = None) -> None:
        """Add an uploaded program under its hash and, if it has one, under its name."""
        with self._lock:
            self._by_hash[program_hash] = program
            if name is not None:
                self._uploaded.put(name, program)

    def by_hash(self, program_hash: str) -> Program | None:
        """Return the uploaded program with this hash, None if there is none."""
        with self._lock:
            return self._by_hash.get(program_hash)

    def registered(self, name: ProgramName) -> Program | None:
        """Return the program of the registry with this name, None if there is none."""
        with self._lock:
            return self._registry.get(name)

    def versions(self, namespace: str, name: str) -> list[str]:
        """Return the versions of a program of the registry."""
        with self._lock:
            return self._registry.versions(namespace, name)

    def by_name(self, name: ProgramName) -> Program | None:
        """Return the uploaded program with this name or, if there is none, that of the registry."""
        with self._lock:
            return self._uploaded.get(name, resolve_latest=False) or self._registry.get(name)

    def __len__(self) -> int:
        with self._lock:
            return len(self._by_hash)
