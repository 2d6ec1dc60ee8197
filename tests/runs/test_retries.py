"""Which failures are tried again, and after which pause."""

import time

import pytest

from pie_sync import (
    AuthenticationError,
    CompletedInstance,
    Event,
    InstanceFailed,
    LaunchError,
    PieConnectionError,
    PieTimeoutError,
    ProtocolError,
)
from pie_sync._runs.retries import growing_pause, may_be_bad_luck


def ended_with(event):
    return InstanceFailed("i", CompletedInstance(event, "so"))


@pytest.mark.parametrize(
    "error",
    [
        ended_with(Event.Exception),
        ended_with(Event.ServerError),
        ended_with(Event.OutOfResources),
        LaunchError("map", "too many instances"),
        ProtocolError("nonsense"),
        PieTimeoutError("late"),
        PieConnectionError("lost"),
    ],
    ids=repr,
)
def test_what_may_be_bad_luck(error):
    assert may_be_bad_luck(error)


@pytest.mark.parametrize(
    "error",
    [
        ended_with(Event.Aborted),
        LaunchError("map", "Program not found: std/nobody@1.0.0"),
        LaunchError("map", "Failed to compile WASM: no"),
        AuthenticationError("who?"),
        TypeError("args"),
        OSError("disk"),
    ],
    ids=repr,
)
def test_what_would_happen_again(error):
    assert not may_be_bad_luck(error)


def test_the_pause_doubles_up_to_a_limit():
    assert [growing_pause(attempts) for attempts in range(1, 6)] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert growing_pause(10) == growing_pause(10_000) == 30.0


def test_a_program_that_is_not_there_is_asked_for_once(server, client, monkeypatch):
    launches = []
    session = client._manager.connection.session
    post = session.request_all
    monkeypatch.setattr(session, "request_all", lambda *args: launches.extend(args[0]) or post(*args))
    with pytest.raises(LaunchError):
        next(client.map("nobody/knows", [["1"]], retries=5))
    assert len(launches) == 1


def test_others_run_during_the_pause(server, client):
    """With one place, a failed input does not keep it while it waits for its next attempt."""
    times: dict[str, list[float]] = {}

    @server.program("first-fails")
    def first_fails(context):
        [name] = context.args
        times.setdefault(name, []).append(time.monotonic())
        if name == "0" and len(times["0"]) < 3:
            raise ValueError("not yet")
        return name

    inputs = [[str(number)] for number in range(4)]
    results = client.map("first-fails", inputs, retries=2, concurrency=1)
    assert [result.message for result in results] == ["0", "1", "2", "3"]
    first, second, third = times["0"]
    assert second - first >= 0.1
    assert third - second >= 0.2
    assert all(times[name][0] < third for name in "123")
