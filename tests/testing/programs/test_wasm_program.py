"""Uploaded WebAssembly: its arguments, its limits, and how it can end."""

from __future__ import annotations

import threading
import time

import pytest

from pie_sync.testing import LocalServer
from tests.testing import programs
from tests.testing.conftest import Connect
from tests.testing.programs.conftest import Run
from tests.testing.raw import ABORTED, COMPLETED, EXCEPTION, OUT_OF_RESOURCES, RawClient


def test_arguments_follow_the_name_of_the_program(client: RawClient) -> None:
    program_hash = client.upload_program(programs.HELLO)["result"]
    instance_id = client.launch_hash(program_hash, "one", "zwei und drei", "", "日本")
    stdout, stderr, end = client.output(instance_id)
    assert stdout == f"{program_hash}\none\nzwei und drei\n\n日本\n"
    assert stderr == ""
    assert end == (COMPLETED, "")


def test_exit_code_0_completes(run: Run) -> None:
    assert run(programs.SUCCESS) == ("", "", (COMPLETED, ""))


def test_another_exit_code_is_an_exception(run: Run) -> None:
    assert run(programs.FAILURE) == ("out\n", "err\n", (EXCEPTION, "Runtime error: exit code 3"))


@pytest.mark.parametrize(
    ("wasm", "text"),
    [
        (programs.TRAP, "unreachable"),
        (programs.DIVISION, "divide by zero"),
        (programs.RECURSION, "call stack exhausted"),
        (programs.NO_START, "no _start"),
        (programs.UNKNOWN_IMPORT, "unknown import"),
    ],
    ids=["unreachable", "division by zero", "stack", "no start", "unknown import"],
)
def test_a_fault_is_an_exception_that_names_it(run: Run, wasm: bytes, text: str) -> None:
    _, _, (event, message) = run(wasm)
    assert event == EXCEPTION
    assert text in message


@pytest.mark.parametrize(
    "wasm",
    [programs.MEMORY_HOG, programs.HUGE_MEMORY, programs.HUGE_TABLE],
    ids=["growing", "memory at once", "table at once"],
)
def test_too_much_memory_is_out_of_resources(run: Run, wasm: bytes) -> None:
    _, _, (event, message) = run(wasm)
    assert event == OUT_OF_RESOURCES
    assert message


def test_the_memory_limit_can_be_set(connect: Connect) -> None:
    with LocalServer(memory_limit=2**31) as large:
        client = connect(to=large)
        assert client.output(client.start(programs.HUGE_MEMORY))[2] == (COMPLETED, "")


@pytest.mark.parametrize(
    "wasm",
    [programs.ENDLESS_LOOP, programs.ECHO, programs.sleep(3600 * 10**9)],
    ids=["endless loop", "waiting for input", "sleeping"],
)
def test_terminate_ends_the_instance_and_its_thread_within_a_second(
    server: LocalServer, client: RawClient, wasm: bytes
) -> None:
    before = set(threading.enumerate())
    instance_id = client.start(wasm)
    if wasm is not programs.ECHO:
        assert next(client.events(instance_id))[0] == "Stdout"
    started = time.monotonic()
    assert client.terminate(instance_id)[0]
    assert list(client.events(instance_id)) == [(ABORTED, "Signal termination")]
    assert time.monotonic() - started < 1
    # Were it still running, the server would wait for it three times as long.
    server.close()
    assert time.monotonic() - started < 2
    assert set(threading.enumerate()) <= before


def test_many_instances_of_one_program_at_once(client: RawClient) -> None:
    program_hash = client.upload_program(programs.POLL_INPUT)["result"]
    instance_ids = [client.launch_hash(program_hash) for _ in range(20)]
    for number, instance_id in enumerate(instance_ids):
        client.signal(instance_id, f"n{number}")
    printed, ended = {}, set()
    while len(ended) < len(instance_ids):
        message = client.receive()
        if message["type"] == "streaming_output":
            printed[message["instance_id"]] = message["output"]["Stdout"]
        else:
            assert (message["event"], message["message"]) == (COMPLETED, "")
            ended.add(message["instance_id"])
    assert printed == {instance_id: f"n{number}\n" for number, instance_id in enumerate(instance_ids)}


def test_terminating_one_instance_leaves_the_others_alone(client: RawClient) -> None:
    doomed = client.start(programs.ENDLESS_LOOP)
    assert next(client.events(doomed)) == ("Stdout", "up")
    other = client.start(programs.POLL_INPUT)
    assert client.terminate(doomed)[0]
    assert list(client.events(doomed)) == [(ABORTED, "Signal termination")]
    client.signal(other, "alive")
    assert client.output(other) == ("alive\n", "", (COMPLETED, ""))
