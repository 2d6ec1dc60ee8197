"""The configuration file, as the official client reads and writes it."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from .conftest import RunHere, lines, shown


def test_the_file_of_the_official_client(run_here: RunHere, config: Path, home: Path) -> None:
    settings = shown(run_here("config", "show"))
    assert settings["uri"] == ("ws://gpu-box:9000", str(config))
    assert settings["username"] == ("bob", str(config))
    assert settings["key"] == (str(home / "keys/mine"), str(config))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("port = ", "is no TOML: "),
        ("port = 0", "port must be a port, 1 to 65535, not 0 as in "),
        ("port = true", "port must be a port, 1 to 65535, not True as in "),
        ('enable_auth = "no"', "enable_auth must be true or false, not 'no' as in "),
        ("host = 5", "host must be text, not 5 as in "),
        ("profiles = 5", "profiles must be a table, not 5 as in "),
        ("[profiles]\nlab = 5", "profiles.lab must be a table, not 5 as in "),
    ],
)
def test_files_that_make_no_sense(run_here: RunHere, config: Path, content: str, reason: str) -> None:
    config.write_text(content)
    result = run_here("ping")
    error, hint = result.stderr.splitlines()
    assert result.code == 1
    assert error.startswith("error: ")
    assert reason in error
    assert str(config) in error
    assert hint.startswith("hint: ")


def test_a_byte_order_mark(run_here: RunHere, config: Path) -> None:
    config.write_bytes(codecs.BOM_UTF8 + b'host = "here"\r\n')
    assert shown(run_here("config", "show"))["uri"][0] == "ws://here:8080"
    assert run_here("config", "set", "port", "9001").code == 0
    assert config.read_text(encoding="utf-8") == 'host = "here"\nport = 9001\n'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('username = "Zoë"'.encode("latin-1"), "is not UTF-8 text: byte 14 is 0xeb"),
        ('username = "bob"'.encode("utf-16"), "is UTF-16 text, not UTF-8"),
        ('username = "bob"'.encode("utf-32"), "is UTF-32 text, not UTF-8"),
    ],
    ids=["Latin-1", "UTF-16", "UTF-32"],
)
def test_other_encodings(run_here: RunHere, config: Path, content: bytes, reason: str) -> None:
    config.write_bytes(content)
    for command in (["ping"], ["config", "set", "port", "1"], ["ping", "--config", config]):
        assert lines(run_here(*command)) == (f"{config} {reason}", "save it as UTF-8")
    assert config.read_bytes() == content
