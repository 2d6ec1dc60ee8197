"""Text files in UTF-8, with and without a byte order mark, and in other encodings."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from pie_sync._support.text_files import decode_text, read_text


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["bare", "marked"])
def test_utf_8(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(mark + "ä\r\nb\rc\n\ufeff".encode())
    assert read_text(path) == read_text(str(path)) == "ä\nb\nc\n\ufeff"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be"])
def test_another_encoding_with_a_mark_is_named(encoding: str) -> None:
    content = ("" if encoding.endswith(("16", "32")) else "\ufeff") + "text"
    with pytest.raises(ValueError, match=f"^the file is {encoding[:6].upper()} text, not UTF-8$"):
        decode_text(content.encode(encoding), "the file")


def test_another_encoding_without_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("abcö".encode("latin-1"))
    with pytest.raises(ValueError, match="file is not UTF-8 text: byte 3 is 0xf6$") as caught:
        read_text(path)
    assert str(caught.value).startswith(str(path))
