"""Every example runs, and prints what it promises."""

import os
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
        "the server says no: launch_instance_from_registry failed: ",
        "Exception\nRuntimeError: out of flour\nnothing yet: PieTimeoutError\nAborted\n"
        "no server: PieConnectionError\n",
    ],
    "multiprocessing_workers.py": [
        "fork: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\n",
        "spawn: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\n",
    ],
}


#: What a real server is needed for; it's run where there is one, in tests/real_server/.
NEED_A_SERVER = {"real_server.py"}


def test_no_example_is_forgotten():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(EXPECTED) | NEED_A_SERVER


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


@pytest.mark.parametrize("name", NEED_A_SERVER)
def test_without_a_server_it_says_in_one_line_what_it_needs(name):
    environment = {key: value for key, value in os.environ.items() if key != "PIE_URI"}
    command = [sys.executable, "-W", "error", EXAMPLES / name]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "PIE_URI" in result.stderr


def test_the_example_of_a_test_suite():
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLES / "testing"]
    result = subprocess.run(command, cwd=EXAMPLES.parent, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
