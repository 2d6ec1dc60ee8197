"""What a server reads of a manifest, in both forms of a program's name."""

from __future__ import annotations

import pytest

from pie_sync.testing._dialects.manifest import language_of, package_of, program_name

SCRIPT = """
# A manifest with more in it than a server needs.
[package]
name = 'a/b'   # in the form of the instance protocol
version = "1.0.0"
authors = ["x", "y"]
[runtime]
language = "python"
[parameters]
n = { type = "int", default = 5 }
"""


def test_name_and_version() -> None:
    assert package_of(SCRIPT) == ("a/b", "1.0.0")
    assert str(program_name(SCRIPT)) == "a/b@1.0.0"
    assert package_of('package = {name = "a b", version = ""}') == ("a b", "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "`package`"),
        ("package = 5", "`package`"),
        ("[package]", "`name`"),
        ('[package]\nname = "a"', "`version`"),
        ('[package]\nname = "a"\nversion = 1', "`version`"),
        ('[package]\nname = ["a"]\nversion = "1"', "`name`"),
        ("no toml", "."),
        ('[package]\nname = "a"\nname = "b"', "."),
    ],
)
def test_a_manifest_without_them(text: str, reason: str) -> None:
    for read in (package_of, program_name):
        with pytest.raises(ValueError, match=reason):
            read(text)


@pytest.mark.parametrize("name", ["a", "a/b/c", "a/b@1", "/a", "a b/c"])
def test_names_that_are_none_on_the_instance_protocol(name: str) -> None:
    text = f'[package]\nname = "{name}"\nversion = "1"'
    assert package_of(text) == (name, "1")
    with pytest.raises(ValueError, match=name):
        program_name(text)


def test_the_language_of_a_script() -> None:
    assert language_of(SCRIPT) == "python"
    for text in ('[package]\nname = "a"', "runtime = 5", "[runtime]\nentry = 'main'"):
        assert language_of(text) is None
    with pytest.raises(ValueError, match="unknown variant `cobol`, expected `python` or `javascript`"):
        language_of('[runtime]\nlanguage = "cobol"')
