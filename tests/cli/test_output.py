"""Where the output of a program goes."""

from __future__ import annotations

import io
import threading
from typing import Callable

import pytest

from pie_sync.cli._output import Output
from pie_sync.testing import LocalServer, ProgramContext

from .conftest import CommandLine, finish


def test_everything_goes_where_it_belongs(pie: CommandLine) -> None:
    done = pie("run", "talk", "x", "y")
    assert done.stdout == "out 1\nmessage 1\nout 2\nmessage 2\nx y\n"
    assert done.stderr == "err 1\n[received a blob of 6 bytes; --save-blobs DIR saves them]\n"
    assert done.returncode == 0


def test_a_line_begins_where_a_line_begins(pie: CommandLine, server: LocalServer) -> None:
    @server.program("no-end")
    def no_end(context: ProgramContext) -> str:
        context.stdout("no line end")
        context.stderr("neither here")
        context.send("message")
        raise ValueError("bad luck")

    done = pie("run", "no-end")
    assert done.stdout == "no line end\nmessage\n"
    assert done.stderr == "neither here\nException: Runtime error: ValueError: bad luck\n"


def test_text_that_the_terminal_cannot_show(pie: CommandLine) -> None:
    done = pie("run", "talk", "\N{PIE}", PYTHONIOENCODING="ascii")
    assert done.stdout.endswith("\\U0001f967\n")


def test_output_comes_as_it_is_written(pie: CommandLine, waiter: threading.Event) -> None:
    process = pie.start("run", "waiter", "--send-stdin")
    assert process.stdout.read(11) == "waiting... "  # and it's still running
    assert not waiter.is_set()
    process.stdin.write("thanks\n")
    assert finish(process) == (0, "\nthanks\n", "")


def test_a_note_that_comes_as_soon_as_an_open_line_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads a question may press Ctrl-C before the write of the question has returned."""
    screen = io.StringIO()

    class Terminal(io.StringIO):
        seen: Callable[[], None] = staticmethod(lambda: None)

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            return screen.write(text)

        def flush(self) -> None:
            self.seen()

    stdout = Terminal()
    monkeypatch.setattr("sys.stdout", stdout)
    monkeypatch.setattr("sys.stderr", Terminal())
    output = Output()
    stdout.seen = lambda: output.note("[ending]")
    output.stdout("your name? ")
    assert screen.getvalue() == "your name? \n[ending]\n"
