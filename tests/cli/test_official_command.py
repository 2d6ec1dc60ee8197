"""``pie-sync`` beside the official command, ``pie-client`` 0.2.1."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from pie_sync.testing import LocalServer
from tests.testing.official import official_python

from .conftest import GUIDE, LIMIT, CommandLine

#: Prints, as JSON, the commands of the official client and the options of each.
COMMANDS = """
import json, typer
from pie_client_cli.main import app

def walk(command, name):
    parts = getattr(command, "commands", None)
    if parts is None:
        options = [option for param in command.params for option in [*param.opts, *param.secondary_opts]]
        return {name: [option for option in options if option.startswith("-")]}
    found = {}
    for part, sub in parts.items():
        found.update(walk(sub, f"{name} {part}".strip()))
    return found

print(json.dumps(walk(typer.main.get_command(app), "")))
"""


@pytest.fixture(scope="module")
def official() -> Path:
    return official_python("0.2.1")


def test_the_guide_has_a_counterpart_of_each_command_and_option(official: Path) -> None:
    printed = subprocess.check_output([official, "-I", "-c", COMMANDS], text=True, timeout=LIMIT)
    commands = json.loads(printed)
    assert len(commands) == 8

    table = GUIDE.read_text().partition("\n## Coming from the official command\n")[2]
    rows = re.findall(r"^\| (.*?) \| .*? \|$", table, re.MULTILINE)
    common = set(re.findall(r"--?[a-z-]+", " ".join(row for row in rows if row.startswith("`-"))))
    for command, options in commands.items():
        of_command = " ".join(row for row in rows if f"`{command}" in row)
        assert of_command, command
        missing = set(options) - common - set(re.findall(r"--?[a-z-]+", of_command))
        assert not missing, command


@pytest.mark.timeout(400)  # the first run builds the client's environment
@pytest.mark.parametrize("release", ["0.2.1", "0.5.3"])
def test_the_official_command_reads_what_only_pie_sync_understands(
    release: str, pie: CommandLine, home: Path, key_file: Path
) -> None:
    """Whole addresses and profiles are in the file as well; the official keys keep their values and types."""
    pie.output("config", "init", "--uri", "wss://gpu-box/v1/ws", "--key", key_file)
    pie.output("config", "init", "--profile", "lab", "--uri", "ws://lab:1", "--username", "eve")
    pie.output("config", "set", "identity", "a/b")
    program = (
        "import json, sys, pathlib; from pie_client_cli.config import ConfigFile;"
        "print(json.dumps(vars(ConfigFile.load(pathlib.Path(sys.argv[1])))))"
    )
    path = home / ".pie/cli_config.toml"
    printed = subprocess.check_output(
        [official_python(release), "-I", "-W", "ignore", "-c", program, path], text=True, timeout=LIMIT
    )
    read = json.loads(printed)
    assert (read["host"], read["port"], read["username"]) == ("gpu-box", 443, "alice")
    if release == "0.2.1":  # later ones have no keys
        assert (read["private_key_path"], read["enable_auth"]) == (str(key_file), True)


def test_both_use_one_configuration(official: Path, pie: CommandLine, home: Path, key_file: Path) -> None:
    with LocalServer(users={"alice": Path(f"{key_file}.pub").read_text()}) as server:
        pie.output("config", "init", "--uri", server.uri, "--key", key_file)
        del pie.environment["PIE_URI"]
        assert pie.output("ping").startswith(server.uri)
        pinged = subprocess.run(
            [official, "-m", "pie_client_cli", "ping"],
            env={**pie.environment, "PYTHONWARNINGS": "default"},  # it has one for Python 3.12
            cwd=home,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert pinged.returncode == 0, pinged.stdout + pinged.stderr
