"""The run export of a WebAssembly component: finds its name, and changes it.

Servers of Pie 0.3 and 0.4 run a component only under the name that it exports itself: ``pie:NAME/run``. So to be
run under another name, it must export another name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["PREAMBLE", "MalformedComponentError", "RunExport", "find_run_export", "is_component"]

#: What a component in binary form begins with: the magic number, the version, and the layer (1; a module has 0).
PREAMBLE = b"\0asm\x0d\0\1\0"

_EXPORT_SECTION = 11

_RUN = re.compile(r"pie:(?P<name>[^/@]+)/run(?P<version>@.+)?")

#: The most bytes of an unsigned 32-bit integer in LEB128.
_LONGEST_INTEGER = 5


class MalformedComponentError(ValueError):
    """The bytes are no component, or one in a syntax that is not known here."""


class RunExport(NamedTuple):
    """The export of a component under which a server looks for its ``run`` function.

    Attributes:
        name: NAME in ``pie:NAME/run``.
        version: what follows it in the export's name: ``"@0.3.0"``, or nothing.
        section: where its section's size begins, where its section's contents begin, and where they end.
        text: where the length of its name begins, and where its name ends.
    """

    name: str
    version: str
    section: tuple[int, int, int]
    text: tuple[int, int]

    def renamed(self, component: bytes, name: str) -> bytes:
        """Return the component with ``pie:{name}/run`` in place of this export's name, and all else as it is.

        Args:
            component: the one in which this export was found.
            name: words of letters and digits, each beginning with a letter, with hyphens between them.
        """
        size_at, begin, end = self.section
        text_begin, text_end = self.text
        text = f"pie:{name}/run{self.version}".encode()
        view = memoryview(component)
        contents = b"".join((view[begin:text_begin], _integer(len(text)), text, view[text_end:end]))
        return b"".join((view[:size_at], _integer(len(contents)), contents, view[end:]))


def is_component(program: bytes) -> bool:
    """Whether a program, of which the first 8 bytes will do, is a component: not a module, nor a script."""
    return program[: len(PREAMBLE)] == PREAMBLE


def find_run_export(component: bytes) -> RunExport | None:
    """Return the run export of a component, None if it has none.

    Reads as little as possible: other sections, those of nested components included, are passed over.

    Raises:
        MalformedComponentError: see there.
    """
    if not is_component(component):
        raise MalformedComponentError("no component")
    reader = _Reader(component, len(PREAMBLE), len(component))
    while reader.position < reader.end:
        section = reader.byte()
        size_at = reader.position
        size = reader.integer()
        begin = reader.position
        reader.skip(size)
        if section == _EXPORT_SECTION:
            found = _find_in_section(_Reader(component, begin, reader.position), size_at)
            if found is not None:
                return found
    return None


def _find_in_section(reader: _Reader, size_at: int) -> RunExport | None:
    begin = reader.position
    found = None
    for _ in range(reader.integer()):
        if reader.byte() not in (0, 1):  # two ways to begin a name, which mean the same
            raise MalformedComponentError("a name of an unknown kind")
        text_begin = reader.position
        match = _RUN.fullmatch(reader.text())
        if match is not None:
            places = (size_at, begin, reader.end), (text_begin, reader.position)
            found = found or RunExport(match["name"], match["version"] or "", *places)
        _skip_exported_item(reader)
    if reader.position != reader.end:
        raise MalformedComponentError("exports that are shorter than their section")
    return found


def _skip_exported_item(reader: _Reader) -> None:
    if reader.byte() == 0:  # an item of a core module: the kind is told by another byte
        reader.byte()
    reader.integer()
    if reader.byte() == 0:  # no type is given
        return
    kind = reader.byte()
    if kind == 0:  # the type of a core module
        reader.byte()
    elif kind in (2, 3):  # a value or a type: equal to a given one; or of a type, of which type 3 has only one
        if reader.byte() == 1 and kind == 3:
            return
    elif kind > 5:
        raise MalformedComponentError("an export of an unknown kind")
    reader.integer()


class _Reader:
    """Reads a part of a component, from ``position`` to ``end``."""

    def __init__(self, component: bytes, position: int, end: int) -> None:
        self._component = component
        self.position = position
        self.end = end

    def skip(self, size: int) -> None:
        """Pass over some bytes."""
        if size > self.end - self.position:
            raise MalformedComponentError("it ends too early")
        self.position += size

    def byte(self) -> int:
        """Return the next byte."""
        self.skip(1)
        return self._component[self.position - 1]

    def integer(self) -> int:
        """Return an unsigned integer in LEB128."""
        value = 0
        for place in range(_LONGEST_INTEGER):
            byte = self.byte()
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise MalformedComponentError("an integer that is too long")

    def text(self) -> str:
        """Return a text: its length, and UTF-8."""
        size = self.integer()
        self.skip(size)
        try:
            return str(self._component[self.position - size : self.position], "utf-8")
        except UnicodeDecodeError:
            raise MalformedComponentError("a name that is no UTF-8") from None


def _integer(value: int) -> bytes:
    """Return an unsigned integer in LEB128."""
    encoded = b""
    while value > 0x7F:
        encoded += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return encoded + bytes((value,))
