"""The configuration file, as the official client reads and writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import RunHere, shown


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
