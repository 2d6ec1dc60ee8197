"""The two lines of a program's manifest that a server reads."""

from __future__ import annotations

import re
import sys
from typing import Any

from ._catalog import ProgramName

if sys.version_info >= (3, 11):
    import tomllib  # novermin - guarded by the line above

__all__ = ["program_name"]


def program_name(manifest: str) -> ProgramName:
    """Return the name that a manifest (TOML) gives to its program.

    Raises:
        ValueError: it is no TOML, or has no ``name = "namespace/name"`` and ``version`` in ``[package]``.
    """
    package = _load(manifest).get("package")
    if not isinstance(package, dict):
        raise ValueError("the manifest has no [package]")
    name, version = package.get("name"), package.get("version")
    if not isinstance(name, str) or not isinstance(version, str):
        raise ValueError("the manifest's [package] must have a name and a version")
    if name.count("/") != 1 or "@" in name:
        raise ValueError(f"the manifest's name must be of the form namespace/name: {name!r}")
    return ProgramName.parse(f"{name}@{version}")


def _load(manifest: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        return tomllib.loads(manifest)  # its error is a ValueError
    return parse_plain_tables(manifest)


_TABLE = re.compile(r"\[\s*([\w.-]+)\s*\]")
_PAIR = re.compile(r"""([\w-]+)\s*=\s*(?:"([^"\\]*)"|'([^']*)'|([^\s"'].*))""")
_COMMENT = re.compile(r"""^((?:[^"'#]|"(?:[^"\\]|\\.)*"|'[^']*')*)#.*$""")


def parse_plain_tables(text: str) -> dict[str, Any]:
    """Read the TOML that manifests are written in, for a Python whose library has no TOML.

    Tables and their values, one to a line. Only plain strings are understood as values; another value is
    kept as its text, wrapped in a tuple so that nobody takes it for a string.

    Raises:
        ValueError: a line is none of those, or a table or key appears twice.
    """
    tables: dict[str, Any] = {}
    table = tables
    for number, line in enumerate(text.splitlines(), 1):
        stripped = _COMMENT.sub(r"\1", line).strip()
        if not stripped:
            continue
        header = _TABLE.fullmatch(stripped)
        if header is not None:
            if header[1] in tables:
                raise ValueError(f"line {number}: table {header[1]!r} appears twice")
            table = tables[header[1]] = {}
            continue
        pair = _PAIR.fullmatch(stripped)
        if pair is None or pair[1] in table:
            raise ValueError(f"line {number}: expected a new key = value, not {stripped!r}")
        key, double_quoted, single_quoted, other = pair.groups()
        quoted = double_quoted if double_quoted is not None else single_quoted
        table[key] = quoted if quoted is not None else (other,)
    return tables
