"""Reads the name and the version from a program's manifest."""

from __future__ import annotations

import sys

from .._server.catalog import ProgramName

if sys.version_info >= (3, 11):
    import tomllib  # novermin - guarded by the line above
else:
    import tomli as tomllib

__all__ = ["language_of", "package_of", "program_name"]

#: What Pie 0.5.2 knows.
LANGUAGES = ("python", "javascript")


def package_of(manifest: str) -> tuple[str, str]:
    """Return the name and the version in a manifest (TOML).

    Raises:
        ValueError: the manifest is not TOML, or has no ``name`` and ``version`` in ``[package]``.
    """
    package = tomllib.loads(manifest).get("package")  # raises TOMLDecodeError, a ValueError
    if not isinstance(package, dict):
        raise ValueError("missing field `package`")
    for field in ("name", "version"):
        if field not in package:
            raise ValueError(f"missing field `{field}`")
        if not isinstance(package[field], str):
            raise ValueError(f"invalid type of `{field}`, expected a string")
    return package["name"], package["version"]


def language_of(manifest: str) -> str | None:
    """Return the language of a script that a manifest (TOML) belongs to; None for WebAssembly.

    Raises:
        ValueError: the manifest is not TOML, or the language is unknown.
    """
    runtime = tomllib.loads(manifest).get("runtime")
    language = runtime.get("language") if isinstance(runtime, dict) else None
    if language is not None and language not in LANGUAGES:
        raise ValueError(f"unknown variant `{language}`, expected `python` or `javascript`")
    return language


def program_name(manifest: str) -> ProgramName:
    """Return the full name of a program whose manifest has ``name = "namespace/name"``.

    Raises:
        ValueError: the manifest is not TOML, has no ``name`` and ``version`` in ``[package]``, or the name has not
            that form. The text is that of Pie 0.2.0.
    """
    failed = "Failed to parse manifest: "
    try:
        package = tomllib.loads(manifest).get("package")
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{failed}Failed to parse manifest TOML: {error}") from error
    if not isinstance(package, dict):
        raise ValueError(f"{failed}Manifest missing [package] section")
    for field in ("name", "version"):
        if not isinstance(package.get(field), str):
            raise ValueError(f"{failed}Manifest missing package.{field} field")
    namespace, slash, name = package["name"].partition("/")
    if not slash:
        raise ValueError(f"{failed}Invalid package.name format '{package['name']}': expected 'namespace/name'")
    return ProgramName(namespace, name, package["version"])
