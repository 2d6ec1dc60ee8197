"""The manifest of a function, and the version that its contents make."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from blake3 import blake3

from ..errors import PieValueError

if TYPE_CHECKING:
    from .signature import Parameter, Signature

__all__ = ["check_name", "check_version", "content_version", "manifest_text"]

_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]*")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")


def check_name(name: str, hint: str) -> str:
    """Return the name of a program if the server takes it.

    Raises:
        TypeError, PieValueError: it does not.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    if not _NAME.fullmatch(name):
        raise PieValueError(
            f"{name!r} can't be the name of a program: letters, digits, - and _ of ASCII,"
            f" and a letter or a digit at the beginning{hint}"
        )
    return name


def check_version(version: str) -> str:
    """Return the version of a program if the server takes it.

    Raises:
        TypeError, PieValueError: it does not.
    """
    if not isinstance(version, str):
        raise TypeError(f"version must be a str, not {type(version).__name__}")
    if not _VERSION.fullmatch(version):
        raise PieValueError(f"version must be three numbers such as '1.0.0', got {version!r}")
    return version


def content_version(source: str, manifest: str) -> str:
    """Return a version that is made from the hash of a program and of its manifest.

    All 256 bits are in its second and third number. The first is 0, so that a bare name, which means the highest
    version on Pie 0.5, does not mean this one where there is a released one.
    """
    hasher = blake3(source.encode("utf-8", "surrogatepass"))
    hasher.update(b"\0" + manifest.encode("utf-8", "surrogatepass"))
    number = int(hasher.hexdigest(), 16)
    return f"0.{number >> 128}.{number & (1 << 128) - 1}"


def manifest_text(name: str, version: str, entry: str, description: str | None, signature: Signature) -> str:
    """Return the manifest: TOML with the name, how to run the function, and its parameters."""
    lines = ["[package]", f"name = {_toml(name)}", f"version = {_toml(version)}"]
    if description:
        lines.append(f"description = {_toml(description)}")
    lines += ["", "[runtime]", 'language = "python"', f"entry = {_toml(entry)}", 'call = "kwargs"']
    described = [line for line in map(_parameter_line, signature.parameters.values()) if line]
    if described:
        lines += ["", "[parameters]", *described]
    return "\n".join(lines) + "\n"


def _parameter_line(parameter: Parameter) -> str | None:
    """Return the line of a parameter. None for a type that no manifest has: the server passes it all the same."""
    kind = parameter.manifest_type
    if kind is None:
        return None
    fields = [f'type = "{kind}"']
    if parameter.default is not None:
        fields += ["optional = true", f"description = {_toml('default: ' + parameter.default)}"]
    return f"{_toml(parameter.name)} = {{{', '.join(fields)}}}"


def _toml(text: str) -> str:
    """Return a TOML string. The escapes of JSON are among TOML's, which wants one more."""
    harmless = text.encode("utf-8", "replace").decode()  # TOML has no lone surrogates
    return json.dumps(harmless, ensure_ascii=False).replace("\x7f", "\\u007f")
