"""Ctrl-C and SIGTERM, at moments that a person hits once in a while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pie_sync import PieClient
from pie_sync.cli._command import _guarded
from pie_sync.cli._interruption import SIGNALS, Interruption, Terminated
from pie_sync.testing import LocalServer, ProgramContext
from tests.scripted import Peer, scripted_server

from .conftest import LIMIT, CommandLine, finish


class Left(BaseException):
    """Stands in for the end of the process."""


@pytest.fixture
def interruption(monkeypatch: pytest.MonkeyPatch) -> Iterator[Interruption]:
    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    interruption = Interruption()
    interruption.handle()
    yield interruption
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_with_nothing_begun_it_ends_the_process(interruption: Interruption, signum: int, code: int) -> None:
    with pytest.raises(Left, match=str(code)):
        signal.raise_signal(signum)


@pytest.mark.parametrize(("signum", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_at_work_the_first_is_raised_and_a_second_ends_the_process(
    interruption: Interruption, signum: int, kind: type[BaseException]
) -> None:
    with pytest.raises(kind):
        with interruption.work():
            signal.raise_signal(signum)
            pytest.fail("too late")
    with pytest.raises(Left):
        signal.raise_signal(signum)


def test_what_is_held_waits_for_its_moment(interruption: Interruption) -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with interruption.work():
            with interruption.hold():
                with interruption.hold():
                    signal.raise_signal(signal.SIGINT)
                    steps.append("inside")
                steps.append("still inside")
                with pytest.raises(KeyboardInterrupt):
                    interruption.check()
                with pytest.raises(KeyboardInterrupt):
                    with interruption.release():
                        steps.append("too late")
                with pytest.raises(Left):
                    signal.raise_signal(signal.SIGINT)
            steps.append("too late")
    assert steps == ["inside", "still inside"]


def test_it_may_come_at_any_moment_where_it_is_released(interruption: Interruption) -> None:
    with interruption.work():
        with pytest.raises(KeyboardInterrupt):
            with interruption.hold():
                with interruption.release():
                    signal.raise_signal(signal.SIGINT)
                    pytest.fail("too late")


def test_where_python_loses_it_it_is_remembered(
    interruption: Interruption, capsys: pytest.CaptureFixture[str]
) -> None:
    class Collected:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with interruption.work():
        Collected()
        with pytest.raises(KeyboardInterrupt):
            with interruption.hold():
                pytest.fail("too late")
    assert capsys.readouterr().err == ""


def test_an_error_that_it_causes_is_not_told(
    interruption: Interruption, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise RuntimeError("can't make this class") from error

    monkeypatch.setattr("pie_sync.cli._command.INTERRUPTION", interruption)
    assert _guarded(command, debug=False) == 143
    assert capsys.readouterr() == ("", "")


def test_what_is_ignored_stays_so(interruption: Interruption) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does in the background of a script
    interruption.handle()
    signal.raise_signal(signal.SIGINT)
    assert not interruption.has_come


@pytest.mark.parametrize("module", ["websocket", "typer"])  # which the library and the command import
def test_while_the_command_is_being_imported(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-c", "import _pie_sync_command as command; command.main()"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_instance_that_was_to_be_detached_is_not_left_without_its_id(lonely_pie: CommandLine) -> None:
    launched, interrupted = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.authenticate()
        request = peer.receive()
        launched.set()
        assert interrupted.wait(LIMIT)
        peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message="the-id")
        request = peer.receive()
        assert (request["type"], request["instance_id"]) == ("terminate_instance", "the-id")
        peer.respond(request)

    with scripted_server(script) as uri:
        process = lonely_pie.start("run", "--detach", "anything", "--uri", uri)
        assert launched.wait(LIMIT)
        process.send_signal(signal.SIGINT)
        assert_is_held(process)
        interrupted.set()
        assert finish(process) == (130, "", "")


def assert_is_held(process: subprocess.Popen[str]) -> None:
    """Wait until a process has handled a signal, and see that it goes on."""
    pending = 1 << (signal.SIGINT - 1)
    while int(status_of(process)["ShdPnd"], 16) & pending:
        os.sched_yield()
    assert process.poll() is None


def status_of(process: subprocess.Popen[str]) -> dict[str, str]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines)


@pytest.fixture
def endless(server: LocalServer) -> None:
    @server.program("endless")
    def endless(context: ProgramContext) -> None:
        while True:
            context.stdout("more\n" * 10_000)


@pytest.fixture
def waiter(server: LocalServer) -> None:
    @server.program("waiter")
    def waiter(context: ProgramContext) -> str:
        context.stdout("waiting... ")
        return context.receive()


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


@pytest.mark.usefixtures("waiter")
def test_a_batch_that_waits_for_more_input(pie: CommandLine, client: PieClient) -> None:
    process = pie.start("map", "waiter", "-", "--output", "out.jsonl")
    process.stdin.write("[]\n")
    while not client.list_instances():
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT) == 130
    assert process.stderr.read() == "[stopped: 0 done; the same command goes on from there]\n"
    assert client.list_instances() == []


# Up to Python 3.12, a wait in SimpleQueue.get() goes on for ever when its time runs out while a signal is handled.
LATE = """
import time
from pie_sync.cli import main
from pie_sync.cli._interruption import NAP, Interruption

def on_signal(self, *args, on_signal=Interruption._on_signal):
    time.sleep(2 * NAP)
    on_signal(self, *args)

Interruption._on_signal = on_signal
main()
"""


@pytest.mark.usefixtures("waiter")
@pytest.mark.parametrize("words", [["run", "waiter"], ["map", "waiter", "in.jsonl", "--output", "out.jsonl"]])
def test_it_is_handled_in_the_last_moment_of_a_wait(
    pie: CommandLine, client: PieClient, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (pie.home / "in.jsonl").write_text("[]\n")
    monkeypatch.setattr("tests.cli.conftest.COMMAND", [sys.executable, "-c", LATE])
    process = pie.start(*words)
    while not client.list_instances():
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT) == 130
    assert client.list_instances() == []
