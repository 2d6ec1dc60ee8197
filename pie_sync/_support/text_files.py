"""Reading text files that people write: UTF-8, with or without a byte order mark."""

from __future__ import annotations

import codecs
import os

from ..errors import PieValueError

__all__ = ["decode_text", "read_text"]

#: The UTF-32 marks come first: the little-endian one begins with that of UTF-16.
_OTHER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a UTF-8 file, without its byte order mark if it has one, and with ``LF`` as line end.

    Raises:
        PieValueError: the file is in another encoding; the text names the file.
        OSError: the file can't be read.
    """
    if "\0" in os.fspath(path):
        raise PieValueError(f"{os.fspath(path)!r} can't be a path: there is a null byte in it")
    with open(path, "rb") as file:
        content = file.read()
    return decode_text(content, os.fspath(path)).replace("\r\n", "\n").replace("\r", "\n")


def decode_text(content: bytes, name: str) -> str:
    """Decode UTF-8, as :func:`read_text`; ``name`` says in the error where the bytes come from."""
    for mark, encoding in _OTHER_MARKS:
        if content.startswith(mark):
            raise PieValueError(f"{name} is {encoding} text, not UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PieValueError(
            f"{name} is not UTF-8 text: byte {error.start} is 0x{content[error.start]:02x}"
        ) from None
