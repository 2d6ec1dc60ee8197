"""Ctrl-C, SIGTERM and SIGHUP, at moments that are seldom hit."""

from __future__ import annotations

import signal
import sys

import pytest

from pie_sync import PieClient
from pie_sync.cli._interruption import SIGNALS, Interruption, Terminated

from .conftest import LIMIT, CommandLine, Left


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_with_nothing_begun_it_ends_the_process(interruption: Interruption, signum: int, code: int) -> None:
    with pytest.raises(Left, match=str(code)):
        signal.raise_signal(signum)


@pytest.mark.parametrize(
    ("signum", "kind"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated), (signal.SIGHUP, Terminated)],
)
def test_at_work_the_first_is_raised_and_a_second_ends_the_process(
    interruption: Interruption, signum: int, kind: type[BaseException]
) -> None:
    with pytest.raises(kind):
        with interruption.work():
            signal.raise_signal(signum)
            pytest.fail("too late")
    with pytest.raises(Left):
        signal.raise_signal(signal.SIGTERM if signum == signal.SIGHUP else signum)


@pytest.mark.parametrize("first", SIGNALS)
def test_nobody_insists_by_closing_the_terminal(interruption: Interruption, first: int) -> None:
    """A shell and the kernel both send SIGHUP, so a second one is no second wish."""
    with interruption.work():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(first)
        signal.raise_signal(signal.SIGHUP)
        assert interruption.exit_code == 128 + first
        with pytest.raises(Left):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_what_is_held_waits_for_its_moment(interruption: Interruption, signum: int) -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with interruption.work():
            with interruption.hold():
                with interruption.hold():
                    signal.raise_signal(signum)
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


def test_what_is_ignored_stays_so(interruption: Interruption) -> None:
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # as a shell does in the background of a script, and nohup
    interruption.handle()
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGHUP)
    assert not interruption.has_come


# Up to Python 3.12, a wait in SimpleQueue.get() goes on for ever when its time runs out while a signal is handled.
LATE = """
import time
from pie_sync.cli import main
from pie_sync.cli._interruption import SIGNALS, NAP, Interruption

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


def test_other_errors_that_python_loses_are_shown(
    interruption: Interruption, capsys: pytest.CaptureFixture[str]
) -> None:
    class Collected:
        def __del__(self) -> None:
            raise ValueError("lost")

    Collected()
    assert "ValueError: lost" in capsys.readouterr().err
