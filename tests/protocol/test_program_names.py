"""How programs are named to servers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pie_sync._protocol import ProcessProtocol
from pie_sync._protocol.program_names import (
    ProgramName,
    content_version,
    is_content_name,
    manifest_of,
    parse_name,
)


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


@pytest.mark.parametrize(
    ("program_hash", "version"),
    [
        ("0" * 64, "0.0.0"),
        ("0" * 63 + "1", "0.0.1"),
        ("f" * 64, f"{2**84 - 1}.{2**86 - 1}.{2**86 - 1}"),
        ("8" + "0" * 63, f"{2**83}.0.0"),
    ],
)
def test_a_hash_makes_a_version(program_hash, version):
    assert content_version(program_hash) == version


@given(st.binary(min_size=32, max_size=32))
def test_a_version_has_all_bits_of_its_hash(digest):
    version = content_version(digest.hex())
    assert re.fullmatch("[0-9]+[.][0-9]+[.][0-9]+", version)
    first, second, third = map(int, version.split("."))
    assert max(second, third) < 2**86
    assert (first << 172 | second << 86 | third).to_bytes(32, "big") == digest


def test_a_program_with_a_manifest_has_a_content_addressed_name_of_its_own():
    version = content_version("ab" * 32)
    assert ProcessProtocol.content_name("ab" * 32) == ProgramName("pie-sync", version)
    assert ProcessProtocol.content_name("ab" * 32, named=True) == ProgramName("pie-sync-named", version)


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("pie-sync@1.2.3", True),
        ("pie-sync-named@1.2.3", True),
        (f"pie-sync/{'ab' * 32}@1.0.0", True),
        ("pie-sync-tools@1.2.3", False),
        ("std/pie-sync@1.0.0", False),
    ],
)
def test_names_that_only_pie_sync_makes(name, is_ours):
    assert is_content_name(parse_name(name)) is is_ours
