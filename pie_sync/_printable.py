"""Text from elsewhere (a server, a proxy, a file), made fit for an error message, a log or a terminal."""

from __future__ import annotations

__all__ = ["SHORT", "printable"]

#: How many characters of a server's or a proxy's own words an error message repeats.
SHORT = 200


def printable(text: str, limit: int | None = None) -> str:
    r"""Return the text as one line without anything that could control a terminal.

    White space, line breaks included, becomes single blanks. Other characters that don't print (escape sequences,
    marks that turn the direction of writing) become visible escapes such as ``\x1b``.

    Args:
        text: the text, of whatever length.
        limit: the most characters to return; a text that is cut ends with "...". None is without limit.
    """
    cut = limit is not None and len(text) > limit
    # An escape is never shorter than its character, so nothing behind the limit can show. A margin for white space
    # that is taken out is not worth it.
    line = " ".join((text[:limit] if cut else text).split())
    if not line.isprintable():
        line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
    if limit is not None and (cut or len(line) > limit):
        line = line[: limit - 3] + "..."
    return line
