"""The whole command: its help, its version, completion, and warnings."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

import pie_sync

from .conftest import COMMAND, COMMANDS, GUIDE, LIMIT, CommandLine, RunHere, bash, end_of, panel


def test_a_key_that_others_can_read(lonely_pie: CommandLine, guarded: str, home: Path, key_file: Path) -> None:
    shutil.copy(key_file, home / "key")
    (home / "key").chmod(0o644)
    done = lonely_pie("ping", "--uri", guarded, "--key", "key", PYTHONWARNINGS="default")
    assert done.returncode == 0
    assert done.stderr == "warning: key: others can read this private key; make it yours alone: chmod 600 key\n"


def test_the_commands_are_listed(run_here: RunHere) -> None:
    result = run_here("--help")
    assert result.code == 0
    listed = panel(result.stdout, "Commands")
    assert [line.split()[0] for line in listed] == [*COMMANDS, "config"]
    assert "..." not in "".join(listed)  # every one has a description that is not cut


def documented() -> list[str]:
    """The command lines in the guide."""
    blocks = re.findall(r"^```text\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    text = "".join(blocks).replace("\\\n", "")  # one command on two lines
    return re.findall(r"^(?:\$ )?pie-sync (.*)", text, re.MULTILINE)


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
    assert panel(result.stdout + result.stderr, "Commands")


def test_the_version(run_here: RunHere) -> None:
    assert run_here("--version").stdout == f"pie-sync {pie_sync.__version__}\n"


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ("fly", "No such command 'fly'."),
        ("ps", "No such command 'ps'. Did you mean 'list'?"),
        ("instances", "No such command 'instances'. Did you mean 'list'?"),
        ("kill", "No such command 'kill'. Did you mean 'terminate'?"),
    ],
)
def test_a_command_that_does_not_exist(run_here: RunHere, typed: str, error: str) -> None:
    result = run_here(typed)
    assert result.code == 2
    assert error in result.stderr


def test_the_module_is_the_command() -> None:
    for module in ("pie_sync", "pie_sync.cli"):
        command = [sys.executable, "-m", module, "--version"]
        assert subprocess.check_output(command, text=True, timeout=LIMIT) == f"pie-sync {pie_sync.__version__}\n"


COLOUR = re.compile(r"\x1b\[(?:\d+;)*3\dm")


def raw(terminal: pexpect.spawn, code: int) -> str:
    """Wait for the end, and return all output, with its escape sequences."""
    assert end_of(terminal) == code
    return terminal.before


def test_colours_are_for_terminals_that_want_them(lonely_pie: CommandLine, free_port: int) -> None:
    arguments = ["ping", "--timeout", "0.1", "--uri", f"ws://127.0.0.1:{free_port}"]
    assert lonely_pie(*arguments).stderr.startswith("error: ")
    assert not COLOUR.search(raw(lonely_pie.spawn("--help"), 0))  # rich leaves what is bold
    assert "\x1b" not in raw(lonely_pie.spawn(*arguments), 1)
    del lonely_pie.environment["NO_COLOR"]
    assert lonely_pie(*arguments).stderr.startswith("error: ")  # no terminal
    shown = raw(lonely_pie.spawn(*arguments), 1)
    assert "\x1b[1;31merror:\x1b[0m " in shown
    assert "\x1b[36mhint:\x1b[0m " in shown
    assert COLOUR.search(raw(lonely_pie.spawn("--help"), 0))
    lonely_pie.environment["TERM"] = "dumb"
    assert "\x1b" not in raw(lonely_pie.spawn(*arguments), 1)


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
