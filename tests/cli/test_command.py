"""What all commands share: the common options, examples, and what an error becomes."""

from __future__ import annotations

import re
import signal

import pytest

from pie_sync.cli._command import _guarded
from pie_sync.cli._interruption import Interruption

from .conftest import COMMANDS, CONFIG_COMMANDS, RunHere, panel


@pytest.mark.parametrize("before", [True, False], ids=["before the command", "behind it"])
def test_a_traceback_on_demand(run_here: RunHere, free_port: int, before: bool) -> None:
    words = ["--debug", "ping"] if before else ["ping", "--debug"]
    result = run_here(*words, "--timeout", "0.1", "--uri", f"ws://127.0.0.1:{free_port}")
    assert result.code == 1
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert "ConnectionRefusedError" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("hint: ")


@pytest.mark.parametrize("command", [*COMMANDS, *CONFIG_COMMANDS])
def test_the_help_of_a_command_has_an_example_that_is_one(run_here: RunHere, command: str) -> None:
    result = run_here(*command.split(), "--help")
    assert result.code == 0
    examples = panel(result.stdout, "Examples")
    assert any(f"pie-sync {command}" in line for line in examples)
    assert run_here(*command.split(), "-h") == result


def test_the_options_of_the_connection_are_in_every_help(run_here: RunHere) -> None:
    """The help of ``pie-sync`` explains them, with their variables and defaults; the others name them."""
    options = ["--uri", "--username", "--key", "--identity", "--profile", "--timeout", "--config"]
    explained = "\n".join(panel(run_here("--help").stdout, "Connection"))
    for text in [*options, "--debug", "env var: PIE_URI", "env var: PIE_PROFILE", "[default: 30]"]:
        assert text in explained
    for command in COMMANDS:
        text = run_here(command, "--help").stdout
        assert panel(text, "Connection") == []
        for option in options:
            assert (option in text) == (command != "serve"), (command, option)
        assert "--debug" in text


@pytest.mark.parametrize("command", ["", *COMMANDS, *CONFIG_COMMANDS])
def test_help_shows_no_type_of_a_flag_and_no_brackets_in_brackets(run_here: RunHere, command: str) -> None:
    text = run_here(*command.split(), "--help").stdout
    assert "--help" in text
    assert not re.search(r"bool|BOOL|\[default: \(", text), text


def test_help_wraps_where_the_terminal_ends(run_here: RunHere, monkeypatch: pytest.MonkeyPatch) -> None:
    """A paragraph is one, wherever the source has its line ends."""
    monkeypatch.setenv("COLUMNS", "200")
    text = run_here("run", "--help").stdout
    assert "The exit code is 0 if the instance completed, 1 if not, and 130 after Ctrl-C." in text
    assert "Its messages and its result are lines on stdout. A .wasm file or a Python function is" in text


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
