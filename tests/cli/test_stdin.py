"""Standard input, line by line."""

from __future__ import annotations

import shlex

import pytest

from pie_sync import PieClient

from .conftest import COMMAND, CTRL_D, CommandLine, bash, end_of


def test_each_line_of_stdin_is_a_message(pie: CommandLine) -> None:
    lines = "one\n\n \N{PIE} \nwith\r\nstop"
    assert pie.output("run", "echo", "--send-stdin", stdin=lines) == "one\n\n \N{PIE} \nwith\nstopped\n"


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
