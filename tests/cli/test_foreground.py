"""An instance in the foreground: its output, Ctrl-C, Ctrl-D, and a terminal that goes away."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import threading
from pathlib import Path
from typing import Any

import pexpect
import pytest
from websockets.exceptions import ConnectionClosed

from pie_sync import PieClient
from pie_sync.testing import LocalServer, ProgramContext
from tests.old_process_server import nothing, old_process_server
from tests.scripted import Peer, scripted_server
from tests.testing.programs import command

from .conftest import COMMAND, CTRL_C, CTRL_D, LIMIT, CommandLine, RunHere, bash, end_of, finish, lines


def test_an_interruption_before_the_launch_is_answered(lonely_pie: CommandLine) -> None:
    """The instance that the launch makes is ended, although its id comes after the interruption."""
    launched, interrupted, terminated = threading.Event(), threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.authenticate()
        request = peer.receive()
        launched.set()
        assert interrupted.wait(LIMIT)
        peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message="the-id")
        request = peer.receive()
        assert (request["type"], request["instance_id"]) == ("terminate_instance", "the-id")
        peer.respond(request)
        peer.event(2, "gone", "the-id")
        terminated.set()

    with scripted_server(script) as uri:
        process = lonely_pie.start("run", "anything", "--uri", uri)
        assert launched.wait(LIMIT)
        process.send_signal(2)
        assert process.stderr.readline().startswith("[ending")
        interrupted.set()
        assert process.wait(LIMIT) == 130
        assert process.stderr.read() == "Aborted: gone\n"
        assert terminated.is_set()


@pytest.mark.usefixtures("endless")
def test_nobody_reads_the_output_and_nobody_ever_will(pie: CommandLine, client: PieClient) -> None:
    process = pie.start("run", "endless", "--timeout", "2")
    assert process.stdout.readline() == "more\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT) == 130
    assert process.stderr.readlines()[-1].endswith(" has not ended yet]\n")
    assert client.list_instances() == []


@pytest.mark.usefixtures("waiter")
def test_nobody_is_left_to_be_told(pie: CommandLine, client: PieClient) -> None:
    """As with ``2>&1 | tee``, which Ctrl-C ends as well: the instance is ended all the same."""
    process = pie.start("run", "waiter")
    assert process.stdout.read(11) == "waiting... "
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT) == 130
    assert client.list_instances() == []


#: Prints a line, and then waits for input that never comes.
READER = command(
    "(call $print (i32.const 16) (i32.const 6)) (drop (call $read (i32.const 32) (i32.const 8)))",
    r'(data (i32.const 16) "ready\n")',
)


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


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
def test_an_interruption_ends_the_instance(
    pie: CommandLine, waiter: threading.Event, client: PieClient, signum: signal.Signals, code: int
) -> None:
    process = pie.start("run", "waiter")
    assert process.stdout.read(11) == "waiting... "
    process.send_signal(signum)
    returncode, _, stderr = finish(process)
    assert returncode == code
    assert stderr == "[ending the instance; Ctrl-C again exits at once]\nAborted: Signal termination\n"
    assert waiter.wait(LIMIT)
    assert client.list_instances() == []


@pytest.mark.usefixtures("waiter")
@pytest.mark.parametrize("limit", ["0.01", "0.5"])
def test_a_time_limit_ends_the_instance(pie: CommandLine, client: PieClient, limit: str) -> None:
    done = pie("run", "waiter", "--time-limit", limit)
    assert done.returncode == 1
    assert done.stderr == f"[not ended within {limit} s: ending the instance]\nAborted: Signal termination\n"
    assert client.list_instances() == []


@pytest.mark.usefixtures("home")
def test_a_time_limit_of_nothing(run_here: RunHere) -> None:
    for arguments in (("run", "x"), ("map", "x", "in.jsonl", "--output", "out.jsonl")):
        error, hint = lines(run_here(*arguments, "--time-limit", "0"))
        assert (error, hint) == ("--time-limit must be more than 0 seconds, not 0", "leave it out for no limit")


def test_a_time_limit_for_a_server_that_loses_the_end(lonely_pie: CommandLine) -> None:
    """It does not answer the termination either."""

    def script(peer: Peer) -> None:
        peer.authenticate()
        peer.launch()
        with contextlib.suppress(ConnectionClosed):
            while True:
                peer.receive()

    with scripted_server(script) as uri:
        done = lonely_pie("run", "anything", "--uri", uri, "--time-limit", "0.5", "--timeout", "1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "[not ended within 0.5 s: ending the instance]"
    assert done.stderr.splitlines()[-1] == "[the instance instance-1 has not ended yet]"


def test_a_time_limit_that_is_not_reached(pie: CommandLine) -> None:
    done = pie("run", "echo", "--send-stdin", "--time-limit", str(LIMIT), stdin="hi\nstop\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hi\nstopped\n", "")


def test_a_time_limit_for_nobody(pie: CommandLine) -> None:
    done = pie("run", "echo", "--detach", "--time-limit", "1")
    assert done.returncode == 1
    assert "--detach exits before" in done.stderr


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
    assert process.stderr.readline() == "[ending the instance; Ctrl-C again exits at once]\n"
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
    assert f"hint: the server may have kept it running: `pie-sync attach {info.id}`\n" in stderr
    assert "Traceback" not in stderr


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
    terminal.expect_exact("\r\n[ending the instance; Ctrl-C again exits at once]\r\n")
    terminal.expect_exact("Aborted: Signal termination\r\n")
    assert end_of(terminal) == 130
    assert client.list_instances() == []


@pytest.mark.usefixtures("chat")
def test_control_d_leaves_the_instance_alone(pie: CommandLine, client: PieClient) -> None:
    terminal = pie.spawn("run", "chat")
    terminal.expect_exact("your name? ")
    terminal.send(CTRL_D)
    terminal.expect(r"\r\n\[left running; `pie-sync attach (\S+)` returns to it\]\r\n")
    instance_id = terminal.match[1]
    assert end_of(terminal) == 0
    assert status_of_all(client) == ["Detached"]

    terminal = pie.spawn("attach", instance_id, "--send-stdin")
    terminal.sendline("Eve")
    terminal.expect_exact("Hello, Eve!\r\n")
    terminal.sendline("bye")
    assert end_of(terminal) == 0


def pipes_of(terminal: pexpect.spawn) -> int:
    """How many ends of pipes a process has: two while a thread reads stdin, from before the launch, then one."""
    count = 0
    for link in Path(f"/proc/{terminal.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since the folder was read
            count += os.readlink(link).startswith("pipe:")
    return count


def hang_up(terminal: pexpect.spawn) -> None:
    """Close a terminal as its window does: only the kernel tells the processes in it."""
    terminal.ptyproc.fileobj.close()
    terminal.ptyproc.closed = terminal.closed = True


def test_a_terminal_that_is_closed_ends_the_instance(
    pie: CommandLine, waiter: threading.Event, client: PieClient
) -> None:
    terminal = pie.spawn("run", "waiter")
    terminal.expect_exact("waiting... ")
    hang_up(terminal)
    assert terminal.ptyproc.wait() == 129
    assert waiter.wait(LIMIT)
    assert client.list_instances() == []


def test_a_terminal_with_a_shell_that_is_closed_ends_the_instance(
    pie: CommandLine, waiter: threading.Event, client: PieClient
) -> None:
    """The shell and the kernel both send SIGHUP, and stdin ends as with Ctrl-D."""
    shell = bash(pie)
    shell.sendline(f"{shlex.join(COMMAND)} run waiter")
    shell.expect_exact("waiting... ")
    hang_up(shell)
    assert waiter.wait(LIMIT)
    assert client.list_instances() == []
    shell.ptyproc.wait()


def test_a_terminal_that_is_closed_leaves_a_command_alone_that_ignores_it(
    pie: CommandLine, server: LocalServer, client: PieClient
) -> None:
    """As after ``trap '' HUP``: the end of stdin is no Ctrl-D, so the instance still sends its output here."""
    told = threading.Event()

    @server.program("slow")
    def slow(context: ProgramContext) -> str:
        context.stdout("waiting... ")
        while not told.is_set():
            try:
                context.receive(timeout=0.05)
            except TimeoutError:
                pass
        return "the end"

    script = f"trap '' HUP; exec {shlex.join(COMMAND)} run slow > out.txt"
    terminal = pie.spawn_program("sh", ["-c", script])
    while not client.list_instances() or (pie.home / "out.txt").read_text() != "waiting... ":
        pass
    before = pipes_of(terminal)
    hang_up(terminal)
    while pipes_of(terminal) == before:
        pass  # the thread that reads stdin has not seen its end yet
    told.set()
    assert terminal.ptyproc.wait() == 0
    assert (pie.home / "out.txt").read_text() == "waiting... \nthe end\n"


def launch(peer: Peer) -> dict[str, Any]:
    peer.authenticate()
    request = peer.receive()
    assert request["type"].startswith("launch_instance")
    return request


def refuse(peer: Peer, request: dict[str, Any]) -> None:
    peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=False, message="no such thing")


def test_a_launch_that_is_refused_while_lines_wait(pie: CommandLine) -> None:
    done = pie("run", "nobody/knows", "--send-stdin", stdin="a\nb\n")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].startswith(
        "error: the server refuses the request: Failed to download inferlet"
    )


def test_a_launch_that_is_refused_after_control_d(lonely_pie: CommandLine) -> None:
    launched, left = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        request = launch(peer)
        launched.set()
        assert left.wait(LIMIT)
        refuse(peer, request)

    with scripted_server(script) as uri:
        terminal = lonely_pie.spawn("run", "anything", "--uri", uri)
        assert launched.wait(LIMIT)
        before = pipes_of(terminal)
        terminal.send(CTRL_D)
        while pipes_of(terminal) == before:
            pass  # the thread that reads stdin has not seen its end yet
        left.set()
        assert end_of(terminal) == 1
        assert "error: the server refuses the request: no such thing" in terminal.before


def test_a_launch_that_is_refused_after_an_interruption(lonely_pie: CommandLine) -> None:
    launched, interrupted = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        request = launch(peer)
        launched.set()
        assert interrupted.wait(LIMIT)
        refuse(peer, request)

    with scripted_server(script) as uri:
        process = lonely_pie.start("run", "anything", "--uri", uri)
        assert launched.wait(LIMIT)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "[ending the instance; Ctrl-C again exits at once]\n"
        interrupted.set()
        assert finish(process) == (130, "", "")


def test_a_server_that_does_not_terminate_the_instance(lonely_pie: CommandLine) -> None:
    def script(peer: Peer) -> None:
        request = launch(peer)
        peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message="the-id")
        peer.event(0, "ready", "the-id")
        request = peer.receive()
        assert request["type"] == "terminate_instance"
        peer.respond(request, "I would rather not", successful=False)
        with pytest.raises(ConnectionClosed):  # the client is the first to hang up
            while True:
                peer.connection.recv(LIMIT)

    with scripted_server(script) as uri:
        process = lonely_pie.start("run", "anything", "--uri", uri, "--timeout", "1")
        assert process.stdout.read(5) == "ready"
        process.send_signal(signal.SIGINT)
        code, _, stderr = finish(process)
    assert code == 130
    assert "\n[can't end the instance the-id: " in stderr
    assert "I would rather not" in stderr
    assert stderr.endswith("\n[the instance the-id has not ended yet]\n")


def test_after_a_lost_connection_the_process_protocol_has_no_way_back(lonely_pie: CommandLine) -> None:
    """Pie 0.3 and 0.4 let nobody attach to it again, and 0.5 has ended it."""

    def answer(message):
        if message["type"] == "launch_process":
            waiting = {"type": "process_event", "process_id": "process-1", "event": "stdout", "value": "waiting"}
            return [(True, "process-1"), waiting]
        return nothing(message)

    with old_process_server(answer) as server:
        process = lonely_pie.start("run", "waiter@1.0.0", "--uri", server.uri)
        assert process.stdout.read(7) == "waiting"
        server.cut()
        returncode, _, stderr = finish(process)
    assert returncode == 1
    assert "hint: if the server has kept it running, `pie-sync terminate process-1` ends it\n" in stderr
    assert "attach" not in stderr
