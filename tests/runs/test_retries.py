"""Which failures are tried again, and after which pause."""

import logging
import re
import time

import pytest

from pie_sync import (
    AuthenticationError,
    CompletedInstance,
    Event,
    InstanceFailed,
    LaunchError,
    PieClient,
    PieConnectionError,
    PieTimeoutError,
    ProtocolError,
)
from pie_sync._runs import map as map_module
from pie_sync._runs.retries import growing_pause, may_be_bad_luck
from pie_sync.testing import LocalServer


def ended_with(event):
    return InstanceFailed("i", CompletedInstance(event, "so"))


@pytest.mark.parametrize(
    "error",
    [
        ended_with(Event.Exception),
        ended_with(Event.ServerError),
        ended_with(Event.OutOfResources),
        LaunchError("map", "too many instances"),
        LaunchError(
            "map",
            "Failed to download inferlet from registry: error sending request for url"
            " (https://registry.example/api/v1/inferlets/std/compiler-not-found/latest/download)",
        ),
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
        LaunchError("map", "no program named 'nobody' is installed"),
        LaunchError("map", f"No such program with hash={'0' * 64}"),
        LaunchError(
            "map",
            "Failed to download inferlet from registry: HTTP status client error (404 Not Found) for url"
            " (https://registry.example/api/v1/inferlets/std/nobody/latest/download)",
        ),
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


@pytest.fixture(autouse=True)
def _short_pauses(request, monkeypatch):
    if "protocol" in request.fixturenames:
        monkeypatch.setattr(map_module, "growing_pause", lambda attempts: 0.0)


@pytest.mark.parametrize(
    ("protocol", "program", "attempts"),
    [
        # These look in their registry, and LocalServer's is out of reach: so they don't know whether it is there.
        ("0.2", "nobody/knows", 4),
        ("0.2-names", "nobody/knows", 4),
        ("0.3", "nobody-knows@1.0.0", 4),
        ("0.4", "nobody-knows@1.0.0", 4),
        ("0.5", "nobody-knows@1.0.0", 1),
        # No name that they can look for.
        ("0.3", "nobody-knows", 1),
        ("0.4", "nobody-knows", 1),
        ("0.5", "nobody-knows", 1),
        # By its hash, the client asks before the launch.
        ("0.2", "0" * 64, 0),
        ("0.2-names", "0" * 64, 0),
        ("0.4", "0" * 64, 0),
        ("0.5", "0" * 64, 0),
    ],
)
def test_how_often_a_program_that_is_not_there_is_launched(caplog, protocol, program, attempts):
    caplog.set_level(logging.DEBUG, "pie_sync.testing.requests")
    with LocalServer(protocol=protocol) as server, PieClient(server.uri) as client:
        client.authenticate("alice")
        with pytest.raises(LaunchError):
            next(client.map(program, [["1"]], retries=3))
    assert len(re.findall("launch_(?:instance|process)", caplog.text)) == attempts


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
