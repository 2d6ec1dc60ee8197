"""The manifest of a function, as a server reads it."""

from __future__ import annotations

import ast
import sys

import pytest

from pie_sync._functions.manifest import check_name, check_version, content_version, manifest_text
from pie_sync._functions.signature import Signature

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def manifest(header: str, description: str | None = None) -> dict:
    signature = Signature(ast.parse(f"def f{header}: pass").body[0])
    return tomllib.loads(manifest_text("name", "1.0.0", "f", description, signature))


def test_all_of_it():
    assert manifest("(a: str, b: int = 16, c: dict = {}, *, ä: bool = True)", "says hello") == {
        "package": {"name": "name", "version": "1.0.0", "description": "says hello"},
        "runtime": {"language": "python", "entry": "f", "call": "kwargs"},
        "parameters": {
            "a": {"type": "string"},
            "b": {"type": "int", "optional": True, "description": "default: 16"},
            "ä": {"type": "bool", "optional": True, "description": "default: True"},
        },
    }
    assert "parameters" not in manifest("(a, b=1)")


@pytest.mark.parametrize("text", ['a "b" \\c', "ä€😀", "a\tb\x7f\x00\x1b", "two\nlines", "'''", '"""'])
def test_any_description(text):
    assert manifest("()", text)["package"]["description"] == text


def test_a_description_that_is_no_unicode():
    assert manifest("()", "a\ud800b")["package"]["description"] == "a?b"


def test_any_default():
    assert manifest("(a: str = 'x\"\\\\')")["parameters"]["a"]["description"] == "default: 'x\"\\\\'"


def test_the_version_is_made_from_everything():
    versions = {
        content_version(*given) for given in (("a", "b"), ("a", "c"), ("ab", ""), ("", "ab"), ("a\0", "b"))
    }
    assert len(versions) == 5
    for version in versions:
        assert check_version(version) == version
        assert version.startswith("0.")  # below every released version
    assert content_version("a", "b") == content_version("a", "b")
    # 256 bits of hash.
    assert max(int(version.replace(".", "")) for version in versions) > 1 << 240


@pytest.mark.parametrize("name", ["", "_x", "-x", "x.y", "ä", "a b", "a/b", "a@1", "a\n"])
def test_names_that_no_server_takes(name):
    with pytest.raises(ValueError, match="can't be the name of a program"):
        check_name(name, "")


@pytest.mark.parametrize("version", ["", "1", "1.0", "1.0.0-rc1", "1.0.0\n", "v1.0.0"])
def test_versions_that_no_server_takes(version):
    with pytest.raises(ValueError, match="three numbers"):
        check_version(version)


def test_what_is_no_text():
    with pytest.raises(TypeError, match="name must be a str, not int"):
        check_name(5, "")
    with pytest.raises(TypeError, match="version must be a str, not float"):
        check_version(1.0)
