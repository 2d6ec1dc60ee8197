"""Text from elsewhere, made fit for one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pie_sync._printable import printable


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", ""),
        ("plain text, also äöü 漢字 🎉", "plain text, also äöü 漢字 🎉"),
        (" a\r\n\tb\u2028c ", "a b c"),
        ("\x1b[2J\x07\x00\x9b", r"\x1b[2J\x07\x00\x9b"),
        ("\u202e\ud800", r"\u202e\ud800"),
    ],
)
def test_one_line(text, result):
    assert printable(text) == result
    assert printable(text, 50) == result


@pytest.mark.parametrize(
    ("text", "result"), [("x" * 10, "x" * 10), ("x" * 11, "xxxxxxx..."), ("\0\0\0", r"\x00\x0...")]
)
def test_the_limit(text, result):
    assert printable(text, 10) == result


@given(st.text(), st.integers(3, 50))
def test_whatever_it_is(text, limit):
    assert printable(text).isprintable()
    assert len(printable(text, limit)) <= limit
