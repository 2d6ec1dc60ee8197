"""``serve --engine`` with a fake of pie-server; tests/real_server has the real one."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from pie_sync.cli._serve_engine import functions_at
from tests.fake_pie_server import make_python

from .conftest import LIMIT, CommandLine, RunHere, finish, lines


@pytest.fixture
def engine(lonely_pie: CommandLine, tmp_path: Path) -> CommandLine:
    """The command, in an environment that has pie-server, as it seems."""
    make_python(tmp_path)
    driver = tmp_path / "vulkan/icd.d/lvp_icd.json"
    driver.parent.mkdir(parents=True)
    driver.touch()
    # The fake needs no Vulkan; the loader may be missing here.
    (tmp_path / "packages/sitecustomize.py").write_text("import ctypes; ctypes.CDLL = str\n")
    lonely_pie.environment.update(PYTHONPATH=str(tmp_path / "packages"), XDG_DATA_DIRS=str(tmp_path))
    lonely_pie.environment.pop("XDG_CACHE_HOME", None)
    return lonely_pie


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_from_start_to_end(engine: CommandLine, signum: signal.Signals) -> None:
    process = engine.start("serve", "--engine", "--port", "7")
    assert process.stdout is not None
    assert process.stdout.readline() == "ws://127.0.0.1:7\n"
    process.send_signal(signum)
    returncode, stdout, stderr = finish(process)
    assert (returncode, stdout) == (0, "")
    loading, serving, ended = stderr.splitlines()
    assert loading == "[loading a tiny model with random weights]"
    assert serving.startswith("[OpenAI-compatible routes: http://here:7/v1; log: ")
    assert str(engine.home / ".cache/pie-sync/logs") in serving or sys.platform != "linux"
    assert ended == "[ended]"


def test_ctrl_c_while_it_loads(engine: CommandLine) -> None:
    process = engine.start("serve", "--engine", "--port", "3")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("[loading")
    logs = engine.home / ".cache/pie-sync/logs"
    deadline = time.monotonic() + LIMIT
    while not any("on stderr" in log.read_text() for log in logs.glob("*")):  # until its process is there
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    returncode, stdout, stderr = finish(process)
    assert (returncode, stdout, stderr) == (0, "", "")


def test_one_that_does_not_start(engine: CommandLine) -> None:
    done = engine("serve", "--engine", "--port", "1")
    assert (done.returncode, done.stdout) == (1, "")
    _, error, hint = done.stderr.splitlines()
    assert error.startswith("error: the engine did not start: no device")
    assert "\x1b" not in error
    assert hint.startswith("hint: its log is ")
    assert "on stderr" in Path(hint[len("hint: its log is ") :]).read_text()


def test_one_that_ends_by_itself(engine: CommandLine) -> None:
    process = engine.start("serve", "--engine", "--port", "7")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stderr.readline()
    log = re.findall(r"log: (.*?);", process.stderr.readline())[0]
    pid = int(Path(log).read_text().split("pid: ")[1].split()[0])
    os.kill(pid, signal.SIGKILL)
    returncode, _, stderr = finish(process)
    assert returncode == 1
    assert stderr == f"error: the server's process has ended\nhint: its log is {log}\n"


def test_without_its_extra_it_says_what_to_install(engine: CommandLine, tmp_path: Path) -> None:
    for path in (tmp_path / "packages/pie").iterdir():
        path.unlink()
    (tmp_path / "packages/pie").rmdir()
    engine.environment["XDG_DATA_DIRS"] = str(tmp_path)
    done = engine("serve", "--engine")
    assert done.returncode == 1
    _, error, hint = done.stderr.splitlines()
    assert error.startswith("error: the engine needs pie-server, which is not installed")
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("options", [["--user", "alice=file"], ["--protocol", "process"]])
def test_what_does_not_go_with_the_engine(run_here: RunHere, options: list[str]) -> None:
    error, hint = lines(run_here("serve", "--engine", *options))
    assert error == "--engine takes no --user and no --protocol"
    assert "lets everybody in" in hint


@pytest.mark.parametrize("options", [["--model", "a"], ["--memory", "4GiB"]])
def test_what_is_for_the_engine_only(run_here: RunHere, options: list[str]) -> None:
    error, hint = lines(run_here("serve", *options))
    assert error == "--model and --memory are for --engine"
    assert hint == "pie-sync serve --engine --model NAME"


def test_an_option_that_can_not_be_used(run_here: RunHere) -> None:
    error, _ = lines(run_here("serve", "--engine", "--memory", "much"))
    assert error == "memory must be a number with its unit, such as '4GiB', not 'much'"


FUNCTIONS = """
from pie_sync import inferlet

@inferlet
async def first(prompt: str) -> str:
    return prompt

@inferlet(name="second", version="1.0.0")
def other() -> int:
    return 2

def third() -> int:
    return 3
"""


@pytest.mark.parametrize(
    ("given", "programs"),
    [
        ("functions.py", ["first", "second"]),
        ("functions.py:third", ["third"]),
        ("plain.py", ["alone"]),
        ("", ["first", "second"]),
    ],
)
def test_the_functions_of_files(tmp_path: Path, given: str, programs: list[str]) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    (tmp_path / "plain.py").write_text("def alone() -> int:\n    return 1\n")
    assert [function.name for function in functions_at([str(tmp_path / given)])] == programs


def test_the_functions_of_several_files(tmp_path: Path) -> None:
    """A function that is named twice is served once."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    (tmp_path / "plain.py").write_text("def alone() -> int:\n    return 1\n")
    names = ["plain.py", "functions.py:third", "", "functions.py", "plain.py"]
    functions = functions_at([str(tmp_path / name) for name in names])
    assert [function.name for function in functions] == ["alone", "third", "first", "second"]


def test_a_folder_tells_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("plain.py", "def f(): pass\n"), ("broken.py", "def"), ("a.wasm", ""), ("notes.txt", "")):
        (tmp_path / name).write_text(text)
    assert functions_at([str(tmp_path)]) == []
    wasm, broken, plain = capsys.readouterr().err.splitlines()
    assert wasm == "[a.wasm is left out: it has no function with @inferlet]"
    assert broken.startswith(f"warning: {tmp_path}/broken.py is left out: {tmp_path}/broken.py is not Python: ")
    assert plain == "[plain.py is left out: it has no function with @inferlet]"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("nothing.py", "nothing.py"),
        ("empty.py", "empty.py defines no function"),
        ("empty.py:f", "empty.py defines no function 'f' (it has none)"),
        ("a.wasm", "the engine can't serve"),
        ("nothing", "there is no file or folder "),
    ],
)
def test_what_the_engine_can_not_serve(run_here: RunHere, tmp_path: Path, given: str, expected: str) -> None:
    (tmp_path / "empty.py").touch()
    (tmp_path / "a.wasm").touch()
    error, hint = lines(run_here("serve", "--engine", str(tmp_path / given)))
    assert expected in error
    assert hint


def test_two_functions_of_one_name(run_here: RunHere, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("@inferlet\ndef one(): pass\n")
    (tmp_path / "b.py").write_text("@inferlet(name='one')\ndef two(): pass\n")
    for paths in ([tmp_path], [tmp_path / "a.py", tmp_path / "b.py"]):
        error, hint = lines(run_here("serve", "--engine", *paths))
        assert error == "several functions are called one"
        assert hint.startswith('@inferlet(name="...")')
