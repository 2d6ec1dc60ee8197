"""The WASI calls of uploaded programs: standard input and output, clocks, and waiting."""

from __future__ import annotations

import pytest

from pie_sync.testing._programs.mailbox import Mailbox
from pie_sync.testing._programs.wasi import EBADF, EINVAL
from tests.testing import programs
from tests.testing.programs.conftest import Run
from tests.testing.raw import COMPLETED, EXCEPTION, RawClient

CLOCK, READ, WRITE = range(3)  # the types of a subscription


def test_a_character_in_two_writes_arrives_whole(client: RawClient) -> None:
    events = list(client.events(client.start(programs.SPLIT_CHARACTER)))
    assert events == [("Stdout", "é"), ("Stdout", "�"), (COMPLETED, "")]


def test_output_is_streamed_while_the_program_runs(client: RawClient) -> None:
    instance_id = client.start(programs.ENDLESS_LOOP)
    assert next(client.events(instance_id)) == ("Stdout", "up")
    client.terminate(instance_id)


def test_each_message_is_a_line_of_input(client: RawClient) -> None:
    instance_id = client.start(programs.ECHO)
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
    instance_id = client.start(programs.ENDLESS_LOOP)
    assert next(client.events(instance_id)) == ("Stdout", "up")
    for _ in range(100):
        client.signal(instance_id, "x" * 10_000)
    client.assert_unanswered()
    assert client.terminate(instance_id)[0]


def test_sleeping_and_clocks(run: Run) -> None:
    assert run(programs.sleep(1_000_000)) == ("asleepawake", "", (COMPLETED, ""))
    assert run(programs.SLEEP_UNTIL)[2] == (COMPLETED, "")


def test_waiting_for_input_with_a_time_limit(client: RawClient) -> None:
    instance_id = client.start(programs.POLL_INPUT)
    client.signal(instance_id, "ready")
    assert client.output(instance_id) == ("ready\n", "", (COMPLETED, ""))


def test_no_files_and_no_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIE_SECRET", "of the host")
    assert run(programs.SANDBOX)[2] == (COMPLETED, "")


def test_a_bad_address_or_descriptor_is_the_programs_own_error(run: Run) -> None:
    assert run(programs.BAD_ADDRESS)[2] == (EXCEPTION, "Runtime error: exit code 21")
    assert run(programs.BAD_DESCRIPTOR)[2] == (EXCEPTION, "Runtime error: exit code 8")


def test_a_program_without_a_memory_has_only_bad_addresses(run: Run) -> None:
    assert run(programs.NO_MEMORY)[2] == (COMPLETED, "")


def test_only_the_input_can_be_read(run: Run) -> None:
    assert run(programs.READ_OUTPUT)[2] == (EXCEPTION, f"Runtime error: exit code {EBADF}")


def test_reading_nothing_does_not_wait_for_input(run: Run) -> None:
    assert run(programs.READ_NOTHING)[2] == (COMPLETED, "")


@pytest.mark.parametrize(("clock", "error"), [(0, 0), (1, 0), (2, EINVAL), (-1, EINVAL)])
def test_there_are_two_clocks(run: Run, clock: int, error: int) -> None:
    end = (EXCEPTION, f"Runtime error: exit code {error}") if error else (COMPLETED, "")
    assert run(programs.read_clock(clock))[2] == end


@pytest.mark.parametrize(("count", "error"), [(0, EINVAL), (1, 0), (1024, 0), (1025, EINVAL)])
def test_a_poll_has_1_to_1024_subscriptions(run: Run, count: int, error: int) -> None:
    end = (EXCEPTION, f"Runtime error: exit code {error}") if error else (COMPLETED, "")
    assert run(programs.poll_many(count))[2] == end


@pytest.mark.parametrize(
    ("kind", "argument", "error"),
    [
        (CLOCK, 1, 0),
        (CLOCK, 2, EINVAL),
        (READ, 1, EBADF),
        (READ, 3, EBADF),
        (WRITE, 0, EBADF),
        (WRITE, 1, 0),
        (WRITE, 2, 0),
        (3, 0, EINVAL),
    ],
)
def test_a_poll_reports_the_error_of_a_subscription(run: Run, kind: int, argument: int, error: int) -> None:
    end = (EXCEPTION, f"Runtime error: exit code {error}") if error else (COMPLETED, "")
    assert run(programs.poll_event(kind, argument))[2] == end


def test_a_fault_of_the_server_is_an_error_number(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def get_message(_mailbox: Mailbox) -> str:
        raise RuntimeError("broken")

    monkeypatch.setattr(Mailbox, "get_message", get_message)
    assert run(programs.READ_INPUT)[2] == (EXCEPTION, f"Runtime error: exit code {EINVAL}")
    (record,) = (record for record in caplog.records if record.name == "pie_sync.testing")
    assert record.getMessage() == "host call fd_read"
