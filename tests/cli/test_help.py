"""What the command tells about itself, and what it costs who doesn't use it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

import pie_sync

from .conftest import RunHere

GUIDE = Path(__file__).parents[2] / "docs" / "command.md"

COMMANDS = ["run", "attach", "list", "terminate", "upload", "map", "query", "ping", "serve"]
CONFIG_COMMANDS = ["config init", "config show", "config set"]


def test_the_commands_are_listed(run_here: RunHere) -> None:
    result = run_here("--help")
    assert result.code == 0
    listed = result.stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == [*COMMANDS, "config"]
    assert "..." not in "".join(listed)  # every one has a description that is not cut


@pytest.mark.parametrize("command", [*COMMANDS, *CONFIG_COMMANDS])
def test_the_help_of_a_command_has_an_example_that_is_one(run_here: RunHere, command: str) -> None:
    result = run_here(*command.split(), "--help")
    assert result.code == 0
    examples = result.stdout.partition("\n  Examples:\n")[2].splitlines()
    assert any(f"pie-sync {command}" in line for line in examples)
    assert run_here(*command.split(), "-h") == result


def test_the_options_of_the_connection_are_in_every_help(run_here: RunHere) -> None:
    for command in COMMANDS:
        text = run_here(command, "--help").stdout
        for option in ["--uri", "--username", "--key", "--identity", "--timeout"]:
            assert (option in text) == (command != "serve"), (command, option)
        assert "--debug" in text


def documented() -> list[str]:
    """The command lines in the guide."""
    blocks = re.findall(r"^```text\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"^(?:\$ )?pie-sync (.*)", "".join(blocks), re.MULTILINE)


def test_the_guide_uses_commands_and_options_that_exist(run_here: RunHere) -> None:
    lines = documented()
    assert {shlex.split(line)[0] for line in lines} >= {"run", "map", "serve", "config"}
    for line in lines:
        words = shlex.split(line.partition(" -- ")[0])
        command = [word for word in words if not word.startswith("-")][: 2 if words[0] == "config" else 1]
        text = run_here(*command, "--help").stdout
        for option in (word for word in words if word.startswith("-")):
            assert re.search(rf"{option}\b", text), line


def test_without_arguments_it_shows_its_help(run_here: RunHere) -> None:
    result = run_here()
    assert "Commands:" in result.stdout + result.stderr


def test_the_version(run_here: RunHere) -> None:
    assert run_here("--version").stdout == f"pie-sync {pie_sync.__version__}\n"


def test_a_command_that_does_not_exist(run_here: RunHere) -> None:
    result = run_here("fly")
    assert result.code == 2
    assert "No such command 'fly'" in result.stderr


def test_the_command_is_installed() -> None:
    points = distribution("pie-sync").entry_points
    [command] = [point for point in points if (point.group, point.name) == ("console_scripts", "pie-sync")]
    assert command.load().__module__ == "_pie_sync_command"


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)


def test_the_library_does_not_import_it() -> None:
    program = "import pie_sync, pie_sync.testing, sys; print([m for m in ('typer', 'rich') if m in sys.modules])"
    assert python(program).stdout == "[]\n"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from pie_sync.cli import main; main()"
    done = python(program)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: the pie-sync command needs {missing}, which is not installed\ncure: pip install 'pie-sync[cli]'\n"
    )


def test_serving_without_its_extra_says_what_to_install() -> None:
    program = "import sys; sys.modules['wasmtime'] = sys.modules['websockets'] = None; sys.argv[1:] = ['serve'];"
    done = python(program + "from pie_sync.cli import main; main()")
    assert done.returncode == 1
    assert done.stderr.endswith("which is not installed\ncure: pip install 'pie-sync[testing]'\n")


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("pie-sync t", {"terminate"}),
        ("pie-sync config s", {"show", "set"}),
        ("pie-sync run --se", {"--send-stdin"}),
        ("pie-sync config set p", {"port", "private_key_path"}),
    ],
)
def test_completion(run_here: RunHere, words: str, completions: set[str]) -> None:
    count = len(words.split()) - 1
    environment = {"_PIE_SYNC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    assert set(run_here(**environment).stdout.split()) == completions
