"""The whole command: its help, its version, completion, and warnings."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

import pie_sync

from .conftest import COMMAND, COMMANDS, GUIDE, CommandLine, RunHere, bash, end_of


def test_a_key_that_others_can_read(lonely_pie: CommandLine, guarded: str, home: Path, key_file: Path) -> None:
    shutil.copy(key_file, home / "key")
    (home / "key").chmod(0o644)
    done = lonely_pie("ping", "--uri", guarded, "--key", "key", PYTHONWARNINGS="default")
    assert done.returncode == 0
    assert done.stderr == "warning: key: others can read this private key; make it yours alone: chmod 600 key\n"


def test_the_commands_are_listed(run_here: RunHere) -> None:
    result = run_here("--help")
    assert result.code == 0
    listed = result.stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == [*COMMANDS, "config"]
    assert "..." not in "".join(listed)  # every one has a description that is not cut


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


def test_completion_in_bash(lonely_pie: CommandLine, home: Path) -> None:
    tools = home / "bin"
    tools.mkdir()
    (tools / "pie-sync").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    (tools / "pie-sync").chmod(0o755)
    (home / "big-program.wasm").touch()
    lonely_pie.environment["PATH"] = f"{tools}:{Path(sys.executable).parent}:{lonely_pie.environment['PATH']}"
    shell = bash(lonely_pie)
    shell.sendline("pie-sync --install-completion")
    shell.expect_exact("ready> ")
    shell.sendline("source ~/.bashrc")  # as a new terminal does
    shell.expect_exact("ready> ")
    for typed, completed in [
        ("pie-sync term", "pie-sync terminate "),
        ("pie-sync run --send", "pie-sync run --send-stdin "),
        ("pie-sync run big", "pie-sync run big-program.wasm "),
        ("pie-sync config set use", "pie-sync config set username "),
    ]:
        shell.send(f"{typed}\t")
        shell.expect_exact(completed)
        shell.send("\x15")  # clear the line
    shell.sendline("exit 0")
    assert end_of(shell) == 0
