"""Every example runs, and prints what it promises."""

import os
import runpy
import subprocess
import sys

import pytest

from tests.programs import EXAMPLES

EXPECTED = {
    "batch.py": [
        "an epic about tea (thinking...)\na haiku about tea\na limerick about tea\n",
        "a haiku about tea / a limerick about tea / an ode about tea / a sonnet about tea / a ballad about tea\n",
    ],
    "quickstart.py": ["connected to ws://", "Hello, world!\nHello, Pie!\nended: Completed bye\n"],
    "streaming.py": ["3\n2\n1\nmessage: lift-off\nCompleted: in orbit\n"],
    "messages_and_blobs.py": [
        "Message: A MESSAGE\n",
        "sent 640000 of 640000 bytes\n",
        "Blob: 640000 bytes, beginning with b'A BLOB OF BYTES '\nCompleted: shouted twice\n",
    ],
    "detached_instances.py": ["launched, and gone\nmine", "thinking about it\nCompleted: 42\n"],
    "error_handling.py": [
        "the server says no: launch failed: ",
        "Exception\nRuntime error: RuntimeError: out of flour\nnothing yet: PieTimeoutError\nAborted\n"
        "no server: PieConnectionError\n",
    ],
    "multiprocessing_workers.py": [
        "fork: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\n",
        "spawn: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\n",
    ],
}


#: What a real server is needed for; it's run where there is one, in tests/real_server/.
NEED_A_SERVER = {"real_server.py"}

#: What starts the real engine by itself; it's run in tests/real_server/, too.
NEED_THE_ENGINE = {"batch_of_prompts.py", "generate_text.py"}

#: A program for `pie-sync serve`, not a script.
PROGRAM = "greet.py"


def test_no_example_is_forgotten():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*EXPECTED, *NEED_A_SERVER, *NEED_THE_ENGINE, PROGRAM}


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name):
    # Warnings are errors, except for the standard library's own about fork() in a process with threads.
    options = ["-W", "error", "-W", "ignore::DeprecationWarning:multiprocessing.popen_fork"]
    result = subprocess.run(
        [sys.executable, *options, EXAMPLES / name], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    for text in EXPECTED[name]:
        assert text in result.stdout
    if name == "streaming.py":
        assert result.stderr == "that was close\n"
    else:
        assert result.stderr == ""


def test_the_program_for_the_local_server(server, client):
    server.program("greet")(runpy.run_path(str(EXAMPLES / PROGRAM))["main"])
    assert client.run("greet", ["world"]).message == "Hello, world!"


@pytest.mark.parametrize("name", NEED_A_SERVER)
def test_without_a_server_it_says_in_one_line_what_it_needs(name):
    environment = {key: value for key, value in os.environ.items() if key != "PIE_URI"}
    command = [sys.executable, "-W", "error", EXAMPLES / name]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "PIE_URI" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the engine needs no software driver")
@pytest.mark.parametrize("name", sorted(NEED_THE_ENGINE))
def test_without_a_driver_it_says_what_to_install(name, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PIE_URI"}
    environment["XDG_DATA_DIRS"] = str(tmp_path)
    command = [sys.executable, "-W", "error", EXAMPLES / name]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stdout == ""
    what, hint = result.stderr.splitlines()
    assert what.endswith("is not installed")
    assert hint.startswith("hint: ")


def test_the_example_of_a_test_suite():
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLES / "testing"]
    result = subprocess.run(command, cwd=EXAMPLES.parent, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
