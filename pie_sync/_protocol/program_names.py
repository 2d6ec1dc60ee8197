"""How a program is named to a server that doesn't name it by the hash of its bytes."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CONTENT_VERSION", "ProgramName", "manifest_of", "parse_name"]

#: The version of every program whose name says all: the bytes under a name made from their hash never change.
CONTENT_VERSION = "1.0.0"


class ProgramName(NamedTuple):
    """A program as a launch names it: a name and, for an exact one, a version."""

    name: str
    version: str | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


def parse_name(text: str) -> ProgramName:
    """Take ``name[@version]`` apart."""
    name, _, version = text.partition("@")
    return ProgramName(name, version or None)


def manifest_of(program: ProgramName) -> str:
    """Return the smallest manifest of a WebAssembly program: TOML with its name and version."""
    return f'[package]\nname = "{program.name}"\nversion = "{program.version}"\n'
