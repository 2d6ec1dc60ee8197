"""How results show themselves: one short line in a prompt or a log, a table in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["beginning", "html_table", "shown", "shown_fields"]

#: How many characters of a text, and how many items of a collection, a line shows.
_CHARACTERS = 80
_ITEMS = 3

#: How many characters of a text a table in a notebook shows.
_PAGE = 10_000


def beginning(text: str) -> str:
    """Return the part of a text that a notebook can show."""
    return text if len(text) <= _PAGE else f"{text[:_PAGE]}... ({len(text):,} characters)"


def shown(value: Any) -> str:
    """Return ``repr(value)``, but say only how long a long text is and how many items a long collection has."""
    if isinstance(value, (str, bytes)):
        if len(value) <= _CHARACTERS:
            return repr(value)
        unit = "characters" if isinstance(value, str) else "bytes"
        return f"{value[:_CHARACTERS]!r}... ({len(value):,} {unit})"
    if isinstance(value, dict):
        parts = [f"{key!r}: {shown(value[key])}" for key in list(value)[:_ITEMS]]
        return "{" + ", ".join([*parts, *_rest(value)]) + "}"
    if isinstance(value, (tuple, list)):
        parts = [*(shown(item) for item in value[:_ITEMS]), *_rest(value)]
        begin, end = "()" if isinstance(value, tuple) else "[]"
        return f"{begin}{', '.join(parts)}{',' if isinstance(value, tuple) and len(parts) == 1 else ''}{end}"
    return repr(value)


def _rest(value: Any) -> list[str]:
    return [f"... ({len(value):,} in all)"] if len(value) > _ITEMS else []


def shown_fields(name: str, fields: Mapping[str, Any]) -> str:
    """Return ``name(field=value, ...)`` for those fields that have a value."""
    given = (f"{field}={shown(value)}" for field, value in fields.items() if value not in (None, "", (), {}))
    return f"{name}({', '.join(given)})"


def html_table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Return an HTML table. All text is escaped, for much of it comes from servers and programs."""
    from html import escape  # noqa: PLC0415 - loads a table of 2 000 names, and only notebooks need it

    lines = ["<table>"]
    if head:
        lines.append(f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr></thead>")
    style = "text-align: left; white-space: pre-wrap"
    for row in rows:
        cells = "".join(f'<td style="{style}">{escape(str(cell))}</td>' for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join([*lines, "</table>"])
