"""``run``, ``attach`` and ``upload`` with pipes, as in a script."""

from __future__ import annotations

import os
import signal
import stat
import threading
from pathlib import Path

import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer, ProgramContext
from tests.programs import HELLO
from tests.testing.programs import command

from .conftest import LIMIT, CommandLine, RunHere, finish

#: Stands in for the tool that links: what it is called with is what matters here.
WAC = """#!/bin/sh
echo "$@" >> "$HOME/wac.log"
[ -f "$3" ] || { echo no "$3" >&2; exit 1; }
cp "$4" "$6"
"""

#: Prints a line, and then waits for input that never comes.
READER = command(
    "(call $print (i32.const 16) (i32.const 6)) (drop (call $read (i32.const 32) (i32.const 8)))",
    r'(data (i32.const 16) "ready\n")',
)


@pytest.fixture
def hello(home: Path) -> Path:
    path = home / "hello.wasm"
    path.write_bytes(HELLO)
    return path


@pytest.fixture
def waiter(server: LocalServer) -> threading.Event:
    """A program that says something without ending the line, and then waits; set once it has ended."""
    ended = threading.Event()

    @server.program("waiter")
    def waiter(context: ProgramContext) -> str:
        context.stdout("waiting... ")
        try:
            return context.receive()
        finally:
            ended.set()

    return ended


def test_everything_goes_where_it_belongs(pie: CommandLine) -> None:
    done = pie("run", "talk", "x", "y")
    assert done.stdout == "out 1\nmessage 1\nout 2\nmessage 2\nx y\n"
    assert done.stderr == "err 1\n[a blob of 6 bytes came; --save-blobs DIR keeps them]\n"
    assert done.returncode == 0


def test_options_behind_the_dashes_are_the_programs(pie: CommandLine) -> None:
    assert pie.output("run", "talk", "--", "--uri", "-d", "x").endswith("\n--uri -d x\n")


def test_an_option_without_the_dashes_is_told_where_it_belongs(run_here: RunHere) -> None:
    result = run_here("run", "talk", "--prompt", "x")
    assert result.code == 2
    assert "No such option: --prompt" in result.stderr
    assert "go after --" in result.stderr


def test_a_line_begins_where_a_line_begins(pie: CommandLine, server: LocalServer) -> None:
    @server.program("no-end")
    def no_end(context: ProgramContext) -> str:
        context.stdout("no line end")
        context.stderr("neither here")
        context.send("message")
        raise ValueError("bad luck")

    done = pie("run", "no-end")
    assert done.stdout == "no line end\nmessage\n"
    assert done.stderr == "neither here\nException: ValueError: bad luck\n"


def test_a_program_that_fails(pie: CommandLine) -> None:
    done = pie("run", "fail")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Exception: RuntimeError: the oven is cold\n"


def test_a_file_is_uploaded_when_the_server_lacks_it(pie: CommandLine, client: PieClient, hello: Path) -> None:
    assert pie.output("run", "hello.wasm", "Pie") == "Hello, Pie!\n"
    program_hash = pie.output("upload", hello).strip()
    assert client.program_exists(program_hash)
    assert pie.output("run", program_hash.upper(), "again") == "Hello, again!\n"


def test_text_that_the_terminal_cannot_show(pie: CommandLine) -> None:
    done = pie("run", "talk", "\N{PIE}", PYTHONIOENCODING="ascii")
    assert done.stdout.endswith("\\U0001f967\n")


def test_output_comes_as_it_is_written(pie: CommandLine, waiter: threading.Event) -> None:
    process = pie.start("run", "waiter", "--send-stdin")
    assert process.stdout.read(11) == "waiting... "  # and it's still running
    assert not waiter.is_set()
    process.stdin.write("thanks\n")
    assert finish(process) == (0, "\nthanks\n", "")


def test_each_line_of_stdin_is_a_message(pie: CommandLine) -> None:
    lines = "one\n\n \N{PIE} \nwith\r\nstop"
    assert pie.output("run", "echo", "--send-stdin", stdin=lines) == "one\n\n \N{PIE} \nwith\nstopped\n"


def test_lines_after_the_end_of_the_program_are_nobodys(pie: CommandLine) -> None:
    done = pie("run", "echo", "--send-stdin", stdin="stop\n" + "more\n" * 1000)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


def test_blobs_are_saved(pie: CommandLine, server: LocalServer, home: Path) -> None:
    @server.program("pictures")
    def pictures(context: ProgramContext) -> None:
        context.send_blob(b"first")
        context.send_blob(b"second")

    done = pie("run", "pictures", "--save-blobs", "new/folder")
    assert done.stdout == ""
    assert sorted(path.read_bytes() for path in (home / "new/folder").iterdir()) == [b"first", b"second"]
    for path in (home / "new/folder").iterdir():
        assert path.name in done.stderr


def test_a_folder_that_cannot_be_written_ends_the_instance(
    pie: CommandLine, client: PieClient, server: LocalServer, home: Path
) -> None:
    @server.program("painter")
    def painter(context: ProgramContext) -> str:
        context.send_blob(b"picture")
        return context.receive()

    (home / "file").touch()
    done = pie("run", "painter", "--save-blobs", "file")
    assert done.returncode == 1
    assert "error: file: " in done.stderr
    assert client.list_instances() == []


def test_detach_and_attach(pie: CommandLine, client: PieClient) -> None:
    instance_id = pie.output("run", "--detach", "echo").strip()
    assert [info.id for info in client.list_instances()] == [instance_id]
    stdout = pie.output("attach", instance_id[:6].upper(), "--send-stdin", stdin="hi\nstop\n")
    assert stdout == "hi\nstopped\n"
    assert client.list_instances() == []


def test_what_a_detached_instance_printed_is_kept(pie: CommandLine) -> None:
    instance_id = pie.output("run", "--detach", "talk", "x").strip()
    assert pie.output("attach", instance_id) == "out 1\nmessage 1\nout 2\nmessage 2\nx\n"
    done = pie("attach", instance_id)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cure: `pie-sync list`" in done.stderr


def test_detaching_does_not_stay_for_stdin(run_here: RunHere) -> None:
    result = run_here("run", "--detach", "--send-stdin", "echo")
    assert result.code == 1
    assert "pie-sync attach" in result.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_an_interruption_ends_the_instance(
    pie: CommandLine, waiter: threading.Event, client: PieClient, signum: signal.Signals, code: int
) -> None:
    process = pie.start("run", "waiter")
    assert process.stdout.read(11) == "waiting... "
    process.send_signal(signum)
    returncode, _, stderr = finish(process)
    assert returncode == code
    assert stderr == "[ending the instance; Ctrl-C again leaves at once]\nAborted: Signal termination\n"
    assert waiter.wait(LIMIT)
    assert client.list_instances() == []


def test_an_interrupted_attach_ends_the_instance(pie: CommandLine, waiter: threading.Event) -> None:
    process = pie.start("attach", pie.output("run", "--detach", "waiter").strip())
    assert process.stdout.read(11) == "waiting... "
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
    assert waiter.wait(LIMIT)


def test_another_interruption_does_not_wait_for_a_server_that_is_stuck(lonely_pie: CommandLine) -> None:
    pie = lonely_pie
    server = pie.start("serve", "--port", "0")
    pie.environment["PIE_URI"] = server.stdout.readline().strip()
    (pie.home / "hello.wasm").write_bytes(READER)
    process = pie.start("run", "hello.wasm")
    assert process.stdout.readline() == "ready\n"
    server.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("[ending")
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT / 3) == 130  # its time limit is longer, and so is the server's silence


def test_an_interruption_while_nobody_reads_the_output(
    pie: CommandLine, server: LocalServer, client: PieClient
) -> None:
    @server.program("endless")
    def endless(context: ProgramContext) -> None:
        while True:
            context.stdout("more\n" * 10_000)

    process = pie.start("run", "endless")
    assert process.stdout.readline() == "more\n"
    process.send_signal(signal.SIGINT)
    # What follows comes while the command can't write to stdout.
    assert process.stderr.readline() == "[ending the instance; Ctrl-C again leaves at once]\n"
    assert finish(process)[0] == 130
    assert client.list_instances() == []


def test_when_nobody_reads_the_output_the_instance_ends(
    pie: CommandLine, server: LocalServer, client: PieClient
) -> None:
    @server.program("endless")
    def endless(context: ProgramContext) -> None:
        while True:
            context.stdout("more\n")

    process = pie.start("run", "endless")
    assert process.stdout.readline() == "more\n"
    process.stdout.close()
    assert process.wait(LIMIT) == 1
    assert process.stderr.read() == ""
    assert client.list_instances() == []


def test_a_lost_connection_tells_how_to_come_back(
    pie: CommandLine, waiter: threading.Event, server: LocalServer, client: PieClient
) -> None:
    process = pie.start("run", "waiter")
    assert process.stdout.read(11) == "waiting... "
    server.drop_connections()
    returncode, _, stderr = finish(process)
    assert returncode == 1
    client.close()
    client.connect()
    client.authenticate("alice")
    [info] = client.list_instances()
    assert f"cure: the server may have kept it running: `pie-sync attach {info.id}`\n" in stderr
    assert "Traceback" not in stderr


def test_bytes_that_are_no_program(pie: CommandLine, home: Path) -> None:
    (home / "letter.wasm").write_text("Dear sir")
    done = pie("run", "letter.wasm")
    assert done.returncode == 1
    assert "compile" in done.stderr.splitlines()[0]


def test_programs_that_are_not_there(run_here: RunHere, server: LocalServer, home: Path) -> None:
    for program, reason in [
        ("nobody/knows@1.0.0", "error: the server says no: Program not found"),
        ("missing.wasm", "error: there is no file missing.wasm"),
        ("~/missing.wasm", f"error: there is no file {home}/missing.wasm"),
    ]:
        result = run_here("run", program, "--uri", server.uri)
        assert (result.code, result.stdout) == (1, "")
        assert result.stderr.startswith(reason)
        assert result.stderr.splitlines()[1].startswith("cure: ")


def test_upload_with_a_manifest(pie: CommandLine, hello: Path, home: Path) -> None:
    (home / "Pie.toml").write_text('[package]\nname = "tests/hello"\nversion = "1.2.0"\n')
    done = pie("upload", hello, "--manifest", "Pie.toml")
    assert done.stderr == "[uploaded hello.wasm]\n"
    assert pie.output("run", done.stdout.strip(), "you") == "Hello, you!\n"


def test_libraries_are_linked_by_wac(
    run_here: RunHere, server: LocalServer, hello: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = home / "bin"
    tools.mkdir()
    wac = tools / "wac"
    wac.write_text(WAC)
    wac.chmod(wac.stat().st_mode | stat.S_IXUSR)
    (home / "a.wasm").touch()
    (home / "b.wasm").touch()
    monkeypatch.setenv("PIE_URI", server.uri)
    path = f"{tools}:{os.environ['PATH']}"

    done = run_here("run", "hello.wasm", "--link", "a.wasm", "-l", "b.wasm", "--", "you", PATH=path)
    assert done.stdout == "Hello, you!\n"
    first, second = (home / "wac.log").read_text().splitlines()
    assert first.startswith("plug --plug a.wasm hello.wasm -o ")
    assert second.startswith(f"plug --plug b.wasm {first.split()[-1]} -o ")

    done = run_here("run", "hello.wasm", "--link", "c.wasm", PATH=path)
    assert done.stderr.startswith("error: wac can't link c.wasm: no c.wasm\n")

    done = run_here("run", "hello.wasm", "--link", "a.wasm")
    assert "cargo install wac-cli" in done.stderr

    done = run_here("run", "hello", "--link", "a.wasm")
    assert done.stderr.startswith("error: --link needs a program that is a file\n")
