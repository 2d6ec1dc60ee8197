"""How a program is named to a server that doesn't name it by the hash of its bytes."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CONTENT_VERSION", "ProgramName", "content_version", "is_content_name", "manifest_of", "parse_name"]

#: The version of a program whose name has its hash, on the instance protocol.
CONTENT_VERSION = "1.0.0"

#: How many of a hash's 256 bits the last two numbers of a version have; the first has the 84 that are left.
_BITS = 86


class ProgramName(NamedTuple):
    """A program as a launch names it: a name and, for an exact one, a version."""

    name: str
    version: str | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


def content_version(program_hash: str) -> str:
    """Return the version that a hash of 64 hexadecimal digits makes: three integers, which have all its bits."""
    number = int(program_hash, 16)
    mask = (1 << _BITS) - 1
    return f"{number >> 2 * _BITS}.{number >> _BITS & mask}.{number & mask}"


def is_content_name(program: ProgramName) -> bool:
    """Whether pie-sync makes such names, of hashes: no registry has them."""
    return program.name in ("pie-sync", "pie-sync-named") or program.name.startswith("pie-sync/")


def parse_name(text: str) -> ProgramName:
    """Take ``name[@version]`` apart."""
    name, _, version = text.partition("@")
    return ProgramName(name, version or None)


def manifest_of(program: ProgramName) -> str:
    """Return the smallest manifest of a WebAssembly program: TOML with its name and version."""
    return f'[package]\nname = "{program.name}"\nversion = "{program.version}"\n'
