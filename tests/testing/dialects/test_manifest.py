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


NO_TOML = "Failed to parse manifest TOML"


@pytest.mark.parametrize(
    ("text", "reason", "reason_0_2"),
    [
        ("", "`package`", r"missing \[package\] section"),
        ("package = 5", "`package`", r"missing \[package\] section"),
        ("[package]", "`name`", r"missing package\.name field"),
        ('[package]\nname = "a"', "`version`", r"missing package\.version field"),
        ('[package]\nname = "a"\nversion = 1', "`version`", r"missing package\.version field"),
        ('[package]\nname = ["a"]\nversion = "1"', "`name`", r"missing package\.name field"),
        ("no toml", ".", NO_TOML),
        ('[package]\nname = "a"\nname = "b"', ".", NO_TOML),
    ],
)
def test_a_manifest_without_them(text: str, reason: str, reason_0_2: str) -> None:
    with pytest.raises(ValueError, match=reason):
        package_of(text)
    with pytest.raises(ValueError, match=f"Failed to parse manifest: .*{reason_0_2}"):
        program_name(text)


def test_a_name_without_a_namespace_is_none_on_the_instance_protocol() -> None:
    text = '[package]\nname = "a"\nversion = "1"'
    assert package_of(text) == ("a", "1")
    with pytest.raises(ValueError, match="Invalid package.name format 'a': expected 'namespace/name'"):
        program_name(text)


@pytest.mark.parametrize("name", ["a/b/c", "a/b@1", "/a", "a b/c", "../x"])
def test_any_other_name_will_do_there(name: str) -> None:
    assert str(program_name(f'[package]\nname = "{name}"\nversion = "1"')) == f"{name}@1"


def test_the_language_of_a_script() -> None:
    assert language_of(SCRIPT) == "python"
    for text in ('[package]\nname = "a"', "runtime = 5", "[runtime]\nentry = 'main'"):
        assert language_of(text) is None
    with pytest.raises(ValueError, match="unknown variant `cobol`, expected `python` or `javascript`"):
        language_of('[runtime]\nlanguage = "cobol"')
