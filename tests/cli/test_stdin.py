"""Standard input, line by line."""

from __future__ import annotations

import codecs
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from typing import IO

import pytest

from pie_sync import PieClient
from pie_sync.cli._stdin import StdinReader

from .conftest import COMMAND, CTRL_D, LIMIT, CommandLine, bash, end_of


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


class Reader:
    """A StdinReader of a pipe, and what it has called back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, file: IO[str]) -> None:
        self.lines: list[str] = []
        self.ended = threading.Event()
        monkeypatch.setattr(sys, "stdin", file)
        monkeypatch.setattr(signal, "signal", lambda *args: None)  # SIGTTIN stays as it is in this process
        self.reader = StdinReader(self.lines.append, self.ended.set)


@pytest.fixture
def pipe() -> Iterator[tuple[IO[str], IO[bytes]]]:
    reader, writer = os.pipe()
    with open(reader) as stdin, open(writer, "wb", buffering=0) as other_end:
        yield stdin, other_end


@pytest.mark.parametrize("can_select", [True, False], ids=["select", "no select, as on Windows"])
def test_lines_and_the_end(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[IO[str], IO[bytes]], can_select: bool
) -> None:
    monkeypatch.setattr("pie_sync.cli._stdin._CAN_SELECT", can_select)
    stdin, other_end = pipe
    used = Reader(monkeypatch, stdin)
    used.reader.start()
    other_end.write(codecs.BOM_UTF8 + "a\n\u00e4\r\n\n".encode() + b"\xff\nrest")
    other_end.close()
    assert used.ended.wait(LIMIT)
    used.reader.stop()
    assert used.lines == ["a", "\u00e4", "", "\N{REPLACEMENT CHARACTER}", "rest"]


def test_stopping_while_it_waits(monkeypatch: pytest.MonkeyPatch, pipe: tuple[IO[str], IO[bytes]]) -> None:
    used = Reader(monkeypatch, pipe[0])
    used.reader.start()
    used.reader.stop()
    assert (used.lines, used.ended.is_set()) == ([], False)


def test_stopping_before_it_has_started(monkeypatch: pytest.MonkeyPatch, pipe: tuple[IO[str], IO[bytes]]) -> None:
    before = os.listdir("/proc/self/fd")
    used = Reader(monkeypatch, pipe[0])
    used.reader.stop()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_an_input_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, pipe: tuple[IO[str], IO[bytes]]) -> None:
    """As under ``nohup``, which opens stdin for writing."""
    monkeypatch.setattr("pie_sync.cli._stdin._CAN_SELECT", False)  # select() waits for ever for such a pipe
    used = Reader(monkeypatch, pipe[1])
    used.reader.start()
    used.reader._thread.join(LIMIT)
    assert not used.reader._thread.is_alive()
    used.reader.stop()
    assert (used.lines, used.ended.is_set()) == ([], False)
