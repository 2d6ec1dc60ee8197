"""What a person in a terminal sees and types."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer, ProgramContext
from tests.programs import HELLO

from .conftest import COMMAND, CommandLine, all_of, end_of

CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.fixture
def chat(server: LocalServer) -> None:
    @server.program("chat")
    def chat(context: ProgramContext) -> str:
        context.stdout("your name? ")
        name = context.receive()
        context.send(f"Hello, {name}!")
        return context.receive()


def bash(command: CommandLine) -> pexpect.spawn:
    """A person's shell, at its prompt."""
    (command.home / "inputrc").write_text("set enable-bracketed-paste off\nset bell-style none\n")
    command.environment.update(PS1="ready> ", INPUTRC=str(command.home / "inputrc"))
    shell = command.spawn_program("bash", ["--norc", "--noprofile", "-i"])
    shell.expect_exact("ready> ")
    return shell


def status_of_all(client: PieClient) -> list[str | None]:
    return [info.status for info in client.list_instances()]


@pytest.mark.usefixtures("chat")
def test_a_conversation(pie: CommandLine) -> None:
    terminal = pie.spawn("run", "chat", "--send-stdin")
    terminal.expect_exact("your name? ")
    terminal.sendline("Eve")
    terminal.expect_exact("Hello, Eve!\r\n")
    terminal.sendline("bye")
    terminal.expect_exact("\r\nbye\r\n")  # the result, behind what was typed
    assert end_of(terminal) == 0


@pytest.mark.usefixtures("chat")
def test_control_c_ends_the_instance_and_shows_its_end(pie: CommandLine, client: PieClient) -> None:
    terminal = pie.spawn("run", "chat")
    terminal.expect_exact("your name? ")
    terminal.send(CTRL_C)
    # It begins a line of its own, though the program's line has no end.
    terminal.expect_exact("\r\n[ending the instance; Ctrl-C again leaves at once]\r\n")
    terminal.expect_exact("Aborted: Signal termination\r\n")
    assert end_of(terminal) == 130
    assert client.list_instances() == []


@pytest.mark.usefixtures("chat")
def test_control_d_leaves_the_instance_alone(pie: CommandLine, client: PieClient) -> None:
    terminal = pie.spawn("run", "chat")
    terminal.expect_exact("your name? ")
    terminal.send(CTRL_D)
    terminal.expect(r"\r\n\[left; `pie-sync attach (\S+)` comes back to it\]\r\n")
    instance_id = terminal.match[1]
    assert end_of(terminal) == 0
    assert status_of_all(client) == ["Detached"]

    terminal = pie.spawn("attach", instance_id, "--send-stdin")
    terminal.sendline("Eve")
    terminal.expect_exact("Hello, Eve!\r\n")
    terminal.sendline("bye")
    assert end_of(terminal) == 0


@pytest.mark.usefixtures("chat")
def test_control_d_ends_the_input_only_when_stdin_is_sent(pie: CommandLine) -> None:
    terminal = pie.spawn("run", "chat", "--send-stdin")
    terminal.expect_exact("your name? ")
    terminal.sendline("Eve")
    terminal.expect_exact("Hello, Eve!\r\n")
    terminal.send("bye" + CTRL_D + CTRL_D)  # the first one ends the line, the second one the input
    assert end_of(terminal) == 0


@pytest.mark.usefixtures("chat")
def test_in_the_background_of_a_shell(pie: CommandLine, client: PieClient) -> None:
    """A process of the background must not read from the terminal: it would be stopped."""
    shell = bash(pie)
    shell.sendline(f"{shlex.join(COMMAND)} run chat &")
    shell.expect_exact("your name? ")
    [info] = client.list_instances()
    client.terminate_instance(info.id)
    shell.expect_exact("Aborted: Signal termination")
    shell.sendline("wait %1; echo code $?")
    shell.expect(r"code (\d+)\r\n")
    assert shell.match[1] == "1"


def test_an_upload_shows_its_progress(pie: CommandLine, home: Path, client: PieClient) -> None:
    # A custom section of 20 MiB, which no program needs: its size takes four bytes of seven bits each.
    size = 20 * 1024 * 1024
    leb128 = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21])
    (home / "big[bold].wasm").write_bytes(HELLO + b"\0" + leb128 + b"\x01x" + bytes(size - 2))
    terminal = pie.spawn("upload", "big[bold].wasm")
    shown = all_of(terminal)
    assert re.search(r"Uploading big\[bold\]\.wasm .*\d/21\.0 MB .* MB/s .*\d:\d\d:\d\d", shown)
    program_hash = re.findall(r"\b[0-9a-f]{64}\b", shown)[-1]
    assert client.program_exists(program_hash)
    # The second time there is nothing to upload, and in a pipe there'd be no bar.
    done = pie("upload", "big[bold].wasm")
    assert (done.stdout, done.stderr) == (program_hash + "\n", "")


def test_a_batch_shows_its_progress(pie: CommandLine, home: Path) -> None:
    (home / "in.jsonl").write_text("".join(json.dumps([str(number)]) + "\n" for number in range(50)))
    terminal = pie.spawn("map", "talk", "in.jsonl", "--output", "out.jsonl")
    shown = all_of(terminal)
    assert re.search(r"Running .*\d+/50 ", shown)
    assert shown.endswith("[50 done: out.jsonl]\r\n")


def test_the_list_fits_the_terminal(pie: CommandLine, client: PieClient) -> None:
    instance = client.launch_instance_from_registry("echo", ["long " * 100])
    terminal = pie.spawn("list")
    head, line = all_of(terminal).splitlines()
    assert head.split() == ["ID", "STATUS", "USER", "SECONDS", "PAGES", "ARGUMENTS"]
    assert line.startswith(f"{instance.id}  Attached  alice ")
    assert len(line) <= 120


def test_a_passphrase_is_asked_for_when_it_is_needed(lonely_pie: CommandLine, tmp_path: Path) -> None:
    key = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-f", key], check=True)
    lonely_pie.environment["PIE_KEY"] = str(key)
    with LocalServer(users={"alice": key.with_suffix(".pub").read_text()}) as server:
        lonely_pie.environment["PIE_URI"] = server.uri
        terminal = lonely_pie.spawn("ping")
        terminal.expect_exact(f"Passphrase for {key}: ")
        terminal.sendline("wrong")
        terminal.expect_exact("That was not it.\r\n")
        terminal.expect_exact(f"Passphrase for {key}: ")
        terminal.sendline("open sesame")
        terminal.expect_exact(" ms, instance protocol")
        assert end_of(terminal) == 0
        assert "sesame" not in terminal.before

        terminal = lonely_pie.spawn("ping")
        terminal.expect_exact("Passphrase")
        terminal.send(CTRL_D)
        assert end_of(terminal) == 1
        assert f"error: {key}: the private key is encrypted, and no passphrase was given" in terminal.before

        done = lonely_pie("ping")
        assert done.returncode == 1
        assert "no terminal to ask for its passphrase" in done.stderr
    with LocalServer() as server:  # which lets everybody in: no passphrase is needed
        assert lonely_pie("ping", "--uri", server.uri).returncode == 0


def test_a_configuration_is_not_overwritten_unasked(lonely_pie: CommandLine, home: Path) -> None:
    assert lonely_pie("config", "init", "--no-auth").returncode == 0
    path = home / ".pie/cli_config.toml"
    for answer, port in [("n", 8080), ("", 8080), ("what?\nNO", 8080), ("y", 1)]:
        terminal = lonely_pie.spawn("config", "init", "--no-auth", "--uri", "ws://127.0.0.1:1")
        terminal.expect_exact(f"There is {path} already. Overwrite it? [y/N]: ")
        terminal.sendline(answer)
        assert end_of(terminal) == 0
        assert f"port = {port}\n" in path.read_text()
    for key, code in [(CTRL_C, 130), (CTRL_D, 1)]:
        terminal = lonely_pie.spawn("config", "init")
        terminal.expect_exact("[y/N]: ")
        terminal.send(key)
        assert end_of(terminal) == code
        assert "error" not in terminal.before
    assert "port = 1\n" in path.read_text()


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
