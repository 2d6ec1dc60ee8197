import codecs

import pytest

from pie_sync._connection.manifest import Manifest
from pie_sync._protocol.program_names import ProgramName, manifest_of, parse_name

TEXT = """
# A manifest with everything
[package]
name = "talk"   # its name
version = '1.2.3'
description = "name = \\"x\\""

[runtime]
language = "python"

[parameters]
name = "not this one"
"""


def test_name_and_version():
    assert Manifest(TEXT).program == ProgramName("talk", "1.2.3")
    assert str(Manifest(TEXT).program) == "talk@1.2.3"


@pytest.mark.parametrize(
    "text", [TEXT, manifest_of(ProgramName("a", "1.0.0")), 'package.name = "a"\npackage.version = "1.0.0"\n']
)
def test_renamed(text):
    renamed = Manifest(text).renamed(ProgramName("other", "9.9.9"))
    assert Manifest(renamed).program == ProgramName("other", "9.9.9")
    assert renamed.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    "text",
    [
        'package = {name = "a", version = "1.0.0"}\n',
        '[other]\nname = "first"\n[package]\nname = "a"\nversion = "1.0.0"\n',
    ],
)
def test_what_can_not_be_renamed_is_told(text):
    with pytest.raises(ValueError, match="each on a line of its own"):
        Manifest(text).renamed(ProgramName("other", "9.9.9"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[package\n", "not TOML"),
        ("x = 1", r"needs \[package\]"),
        ('[package]\nname = "a"\n', r"needs \[package\]"),
        ('[package]\nname = 5\nversion = "1"\n', r"needs \[package\]"),
        ('package = "a"\n', r"needs \[package\]"),
    ],
)
def test_what_is_no_manifest(text, reason):
    with pytest.raises(ValueError, match=reason):
        Manifest(text)


def test_from_text_and_from_a_path(tmp_path):
    path = tmp_path / "Pie.toml"
    path.write_text(TEXT)
    for source in (TEXT, path, str(path)):
        assert Manifest.load(source).program.name == "talk"
    with pytest.raises(FileNotFoundError):
        Manifest.load("missing.toml")
    with pytest.raises(TypeError, match="TOML text or a path, not bytes"):
        Manifest.load(b"[package]\n")


def test_names():
    assert parse_name("a") == ProgramName("a", None)
    assert parse_name("a@1.0.0") == ProgramName("a", "1.0.0")


MANIFEST = '[package]\nname = "a/b"\nversion = "1.0.0"\n'


def test_a_byte_order_mark_is_dropped(tmp_path):
    path = tmp_path / "Pie.toml"
    path.write_bytes(codecs.BOM_UTF8 + MANIFEST.replace("\n", "\r\n").encode())
    assert Manifest.load(path).text == Manifest.load("\ufeff" + MANIFEST).text == MANIFEST


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        ("latin-1", "is not UTF-8 text: byte 2 is 0xeb"),
        ("utf-16", "is UTF-16 text, not UTF-8"),
        ("utf-32", "is UTF-32 text, not UTF-8"),
    ],
)
def test_a_file_in_another_encoding_is_named(tmp_path, encoding, reason):
    path = tmp_path / "Pie.toml"
    path.write_text("# \xeb\n" + MANIFEST, encoding=encoding)
    with pytest.raises(ValueError, match=reason) as caught:
        Manifest.load(path)
    assert str(path) in str(caught.value)
