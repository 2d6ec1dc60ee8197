"""The reading of manifests where the standard library has no TOML, against where it has."""

from __future__ import annotations

import sys

import pytest

from pie_sync.testing._manifest import parse_plain_tables, program_name

GOOD = [
    "",
    '[package]\nname = "a/b"\nversion = "1.0.0"\n',
    "# first\n\n[package] # a table\r\n name='a/b' # single\n\tversion   =\"1\"\n",
    '[package]\nname = "a#b"\nother = \'#\' # "\'#\n[runtime]\nlanguage = "python"\n[a.b]\nx-y_z = ""\n',
    "top = 'level'\n[package]\n",
]
BAD = [
    "no toml",
    "[package",
    '[package]\nname = "a',
    "[package]\nname =",
    '[package]\nname = "a"\nname = "b"',
    "[package]\n[package]",
    '[package]\nname = "a" "b"',
    '= "a"',
]


@pytest.mark.parametrize("text", GOOD)
def test_plain_tables(text: str) -> None:
    parsed = parse_plain_tables(text)
    if sys.version_info >= (3, 11):
        import tomllib  # novermin - guarded by the line above

        expected = tomllib.loads(text)
        expected.update({"a.b": expected.pop("a")["b"]} if "a" in expected else {})
        assert parsed == expected
    else:
        assert isinstance(parsed, dict)


def test_other_values_are_no_strings() -> None:
    text = '[package]\nversion = 1\nauthors = ["x", "y"] # both\nescaped = "a\\tb"\n'
    with pytest.raises(ValueError, match="line 4"):
        parse_plain_tables(text)
    package = parse_plain_tables(text.rsplit("\n", 2)[0])["package"]
    assert package == {"version": ("1",), "authors": ('["x", "y"]',)}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_toml_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        parse_plain_tables(text)
    with pytest.raises(ValueError, match="."):
        program_name(text)
