"""How programs are named to servers."""

import pytest

from pie_sync._protocol.program_names import ProgramName, manifest_of, parse_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hello", ProgramName("hello")),
        ("hello@1.0.0", ProgramName("hello", "1.0.0")),
        ("std/hello@latest", ProgramName("std/hello", "latest")),
        ("hello@", ProgramName("hello")),
    ],
)
def test_names_are_taken_apart(text, name):
    assert parse_name(text) == name


@pytest.mark.parametrize("text", ["hello", "hello@1.0.0", "std/hello@latest"])
def test_names_are_put_together_again(text):
    assert str(parse_name(text)) == text


def test_the_smallest_manifest():
    assert manifest_of(ProgramName("hello", "1.0.0")) == '[package]\nname = "hello"\nversion = "1.0.0"\n'
