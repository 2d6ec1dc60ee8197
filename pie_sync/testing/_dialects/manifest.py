"""The two lines of a program's manifest that a server reads."""

from __future__ import annotations

import sys

from .._server.catalog import ProgramName

if sys.version_info >= (3, 11):
    import tomllib  # novermin - guarded by the line above
else:
    import tomli as tomllib

__all__ = ["package_of", "program_name"]


def package_of(manifest: str) -> tuple[str, str]:
    """Return the name and the version that a manifest (TOML) gives to its program.

    Raises:
        ValueError: it is no TOML, or has no ``name`` and ``version`` in ``[package]``.
    """
    package = tomllib.loads(manifest).get("package")  # its error is a ValueError
    if not isinstance(package, dict):
        raise ValueError("missing field `package`")
    for field in ("name", "version"):
        if field not in package:
            raise ValueError(f"missing field `{field}`")
        if not isinstance(package[field], str):
            raise ValueError(f"invalid type of `{field}`, expected a string")
    return package["name"], package["version"]


def program_name(manifest: str) -> ProgramName:
    """Return the name of a program whose manifest has ``name = "namespace/name"``.

    Raises:
        ValueError: see :func:`package_of`, or the name does not have that form.
    """
    name, version = package_of(manifest)
    if name.count("/") != 1 or "@" in name:
        raise ValueError(f"the manifest's name must be of the form namespace/name: {name!r}")
    return ProgramName.parse(f"{name}@{version}")
