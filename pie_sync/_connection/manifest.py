"""Manifests: the TOML that gives a program its name, its version and, for a script, its runtime."""

from __future__ import annotations

import os
import re
from typing import Any, Union

from .._protocol.program_names import ProgramName
from .._support.text_files import read_text
from .._support.toml import parse_toml
from ..errors import PieValueError

__all__ = ["Manifest", "ManifestSource"]

#: What ``upload_program`` takes: TOML text, or a path.
ManifestSource = Union[str, "os.PathLike[str]"]


class Manifest:
    """A manifest that has at least ``[package]`` with ``name`` and ``version``.

    Attributes:
        text: the TOML.
        program: the name and version that the TOML gives the program.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._fields = _parse(text)
        package = self._fields.get("package")
        package = package if isinstance(package, dict) else {}
        name, version = package.get("name"), package.get("version")
        if not isinstance(name, str) or not isinstance(version, str) or not name or not version:
            raise PieValueError('the manifest needs [package] with name = "..." and version = "..."')
        self.program = ProgramName(name, version)

    @classmethod
    def load(cls, source: ManifestSource) -> Manifest:
        """Read a manifest from TOML text or from a file. A str with a line break or a "=" in it is text.

        A byte order mark is dropped, since TOML has none.

        Raises:
            TypeError: ``source`` is neither text nor a path.
            PieValueError: the file is not UTF-8, the text is not TOML, or it lacks a name or a version.
            OSError: the file can't be read.
        """
        if not isinstance(source, (str, os.PathLike)):
            raise TypeError(f"manifest must be TOML text or a path, not {type(source).__name__}")
        if isinstance(source, str) and ("\n" in source or "=" in source):
            return cls(source.removeprefix("\ufeff"))
        return cls(read_text(source))

    def renamed(self, program: ProgramName) -> str:
        """Return the TOML with another name and version, and everything else as it is.

        Raises:
            PieValueError: name and version are written in a way that can't be replaced.
        """
        wanted = {**self._fields, "package": {**self._fields["package"], **program._asdict()}}
        text = self.text
        for field, value in program._asdict().items():
            text = re.sub(
                rf"""^(\s*(?:package\s*\.\s*)?{field}\s*=\s*)("[^"\n]*"|'[^'\n]*')""",
                lambda match, value=value: f'{match[1]}"{value}"',  # type: ignore[misc]
                text,
                count=1,
                flags=re.MULTILINE,
            )
        # The replacement above does not know all of TOML's syntax. Parsing the result shows whether it worked.
        if _parse(text) != wanted:
            raise PieValueError(
                "the manifest's name and version must be the first of their kind,"
                ' each on a line of its own: name = "..."'
            )
        return text


def _parse(text: str) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except ValueError as error:
        raise PieValueError(f"the manifest is not TOML: {error}") from error
