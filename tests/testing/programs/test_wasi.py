"""The WASI calls of uploaded programs: standard input and output, clocks, and waiting."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.testing import programs
from tests.testing.raw import COMPLETED, EXCEPTION, RawClient

Run = Callable[..., tuple[str, str, tuple[int, str]]]


@pytest.fixture
def run(client: RawClient) -> Run:
    """Uploads a program, runs it to its end and returns (stdout, stderr, end)."""

    def run(wasm: bytes, *arguments: str) -> tuple[str, str, tuple[int, str]]:
        program_hash = client.upload_program(wasm)["result"]
        return client.output(client.launch_hash(program_hash, *arguments))

    return run


def start(client: RawClient, wasm: bytes, *arguments: str) -> str:
    return client.launch_hash(client.upload_program(wasm)["result"], *arguments)


def test_a_character_in_two_writes_arrives_whole(client: RawClient) -> None:
    events = list(client.events(start(client, programs.SPLIT_CHARACTER)))
    assert events == [("Stdout", "é"), ("Stdout", "�"), (COMPLETED, "")]


def test_output_is_streamed_while_the_program_runs(client: RawClient) -> None:
    instance_id = start(client, programs.ENDLESS_LOOP)
    assert next(client.events(instance_id)) == ("Stdout", "up")
    client.terminate(instance_id)


def test_each_message_is_a_line_of_input(client: RawClient) -> None:
    instance_id = start(client, programs.ECHO)
    events = client.events(instance_id)
    for message in ("hi", "", "é", "more than eight bytes"):
        client.signal(instance_id, message)
        echoed = ""
        while not echoed.endswith("\n"):
            stream, text = next(events)
            assert stream == "Stdout"
            echoed += text
        assert echoed == message + "\n"
    client.terminate(instance_id)


def test_a_program_that_reads_nothing_stalls_nobody(client: RawClient) -> None:
    instance_id = start(client, programs.ENDLESS_LOOP)
    assert next(client.events(instance_id)) == ("Stdout", "up")
    for _ in range(100):
        client.signal(instance_id, "x" * 10_000)
    client.assert_unanswered()
    assert client.terminate(instance_id)[0]


def test_sleeping_and_clocks(run: Run) -> None:
    assert run(programs.sleep(1_000_000)) == ("asleepawake", "", (COMPLETED, ""))
    assert run(programs.SLEEP_UNTIL)[2] == (COMPLETED, "")


def test_waiting_for_input_with_a_time_limit(client: RawClient) -> None:
    instance_id = start(client, programs.POLL_INPUT)
    client.signal(instance_id, "ready")
    assert client.output(instance_id) == ("ready\n", "", (COMPLETED, ""))


def test_no_files_and_no_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIE_SECRET", "of the host")
    assert run(programs.SANDBOX)[2] == (COMPLETED, "")


def test_a_bad_address_or_descriptor_is_the_programs_own_error(run: Run) -> None:
    assert run(programs.BAD_ADDRESS)[2] == (EXCEPTION, "exit code 21")
    assert run(programs.BAD_DESCRIPTOR)[2] == (EXCEPTION, "exit code 8")
