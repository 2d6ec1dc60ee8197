"""The process protocol: who is attached, what reaches which client in which order, and what is lost."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from pie_sync.testing import LocalServer, ProgramContext
from pie_sync.testing._dialects import process as _process_dialect
from tests.testing.conftest import Connect
from tests.testing.raw import PATIENCE
from tests.testing.raw_process import ProcessClient


@pytest.fixture(params=["process", "process-0.5"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


UNKNOWN_ID = str(uuid.UUID(int=5))
ATTACHED = (True, "Process attached")
NOT_FOUND = (False, "Process not found")
TAKEN = (False, "Cannot attach: already attached")


def launch_many(client: ProcessClient, name: str, count: int) -> list[dict[str, object]]:
    """Launch a program that sends one message so often, all at once; return all messages."""
    for corr_id in range(100, 100 + count):
        client.send("launch_process", corr_id=corr_id, inferlet=name, input="{}", capture_outputs=True)
    return [client.receive() for _ in range(3 * count)]


def places(messages: list[dict[str, object]]) -> dict[str, list[str]]:
    """What was received of each process, in order."""
    seen: dict[str, list[str]] = {}
    for message in messages:
        is_answer = message["type"] == "response"
        process_id = str(message["result" if is_answer else "process_id"])
        seen.setdefault(process_id, []).append("answer" if is_answer else str(message["event"]))
    return seen


def test_the_answer_to_a_launch_comes_before_the_first_event(server: LocalServer, client: ProcessClient) -> None:
    server.program("quick")(lambda ctx: ctx.send("first"))
    seen = places(launch_many(client, "quick@0.1.0", 100))
    assert set(map(tuple, seen.values())) == {("answer", "message", "return")}
    assert len(seen) == 100


@pytest.fixture
def early_server(protocol: str) -> Iterator[LocalServer]:
    if protocol == "process":
        pytest.skip("servers before Pie 0.5 keep the order")
    with LocalServer(protocol=protocol, early_events=True) as server:
        yield server


def test_events_can_come_before_the_answer_to_their_launch(
    early_server: LocalServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_process_dialect, "EARLY_EVENTS_LIMIT", PATIENCE)
    early_server.program("quick")(lambda ctx: ctx.send("first"))
    seen = places(launch_many(connect(to=early_server), "quick@0.1.0", 10))
    assert set(map(tuple, seen.values())) == {("message", "return", "answer")}
    assert len(seen) == 10


def test_an_answer_is_not_held_back_until_the_end(early_server: LocalServer, connect: Connect) -> None:
    @early_server.program("talk")
    def talk(ctx: ProgramContext) -> str:
        ctx.send("before")
        ctx.send(ctx.receive())
        return "end"

    client = connect(to=early_server)
    process_id = client.launch("talk")  # would not return otherwise
    assert client.event() == ("message", "before")
    client.signal(process_id, "after")
    assert list(client.events(process_id)) == [("message", "after"), ("return", "end")]
    assert client.launch("talk", '{"n": 1}', capture=False) == ""
    (entry,) = client.list()
    assert client.attach(entry["id"]) == ATTACHED


def test_a_running_process_is_listed(client: ProcessClient, repeat: str) -> None:
    text = ' {"b":1, "a": "é"}\t '
    process_id = client.launch(repeat, text)
    (entry,) = client.list()
    assert isinstance(entry.pop("elapsed_secs"), int)
    assert entry == {
        "id": process_id,
        "username": "internal" if client.gateway else "alice",
        "program": "repeat@0.1.0",
        "input": text,
    }
    client.signal(process_id, "done")
    assert list(client.events(process_id)) == [("return", "bye")]
    assert client.list() == []
    assert client.attach(process_id) == client.terminate(process_id) == NOT_FOUND


def test_a_detached_launch_tells_no_id_and_its_output_is_lost(
    server: LocalServer, client: ProcessClient, connect: Connect
) -> None:
    sent, go = threading.Event(), threading.Event()

    @server.program("writer")
    def writer(ctx: ProgramContext) -> str:
        ctx.send("lost")
        ctx.send_blob(b"lost too")
        sent.set()
        assert go.wait(PATIENCE)
        ctx.stdout("never sent")
        ctx.stderr("never sent")
        ctx.send("arrives")
        return "end"

    process_id = client.launch_detached("writer", '{"n": 1}')
    assert sent.wait(PATIENCE)
    other = connect()
    assert other.attach(process_id) == ATTACHED
    go.set()
    # What it prints was not to be captured; that does not change with somebody's being attached.
    assert list(other.events(process_id)) == [("message", "arrives"), ("return", "end")]
    client.assert_unanswered()


def test_a_detached_process_vanishes_with_its_end(server: LocalServer, client: ProcessClient) -> None:
    server.program("short")(lambda ctx: "lost")
    assert client.launch("short", capture=False) == ""
    while client.list():
        pass
    client.assert_unanswered()


def test_detached_processes_do_not_depend_on_a_connection(connect: Connect, repeat: str) -> None:
    first, second = connect(), connect()
    process_id = first.launch_detached(repeat, '{"n": 1}')
    first.close()
    assert second.attach(process_id) == ATTACHED
    second.signal(process_id, "done")
    assert list(second.events(process_id)) == [("return", "bye")]


def test_one_attachment_at_a_time(connect: Connect, repeat: str) -> None:
    first, second = connect(), connect()
    process_id = first.launch(repeat)
    refusal = TAKEN if first.gateway else NOT_FOUND
    assert second.attach(process_id) == first.attach(process_id) == refusal
    assert first.attach(process_id.upper().replace("-", "")) == refusal
    first.signal(process_id, "done")
    assert list(first.events(process_id)) == [("return", "bye")]


@pytest.mark.parametrize("process_id", ["nonsense", ""])
def test_ids_that_are_none(client: ProcessClient, process_id: str) -> None:
    assert client.attach(process_id) == (False, "Invalid process_id")
    assert client.terminate(process_id) == (False, "Invalid process ID")


def test_ids_of_nothing(client: ProcessClient) -> None:
    assert client.attach(UNKNOWN_ID) == client.terminate(UNKNOWN_ID) == NOT_FOUND


def test_terminate_tells_whoever_is_attached(connect: Connect, repeat: str) -> None:
    first, second = connect(), connect()
    process_id = first.launch(repeat)
    assert second.terminate(process_id) == (True, "Process terminated")
    assert list(first.events(process_id)) == [("error", "Signal")]
    assert second.list() == []
    assert second.terminate(process_id) == NOT_FOUND
    second.assert_unanswered()


def test_terminating_a_detached_process(client: ProcessClient, repeat: str) -> None:
    process_id = client.launch_detached(repeat, '{"n": 1}')
    assert client.terminate(process_id) == (True, "Process terminated")
    assert client.list() == []
    client.assert_unanswered()


def test_whose_processes_one_sees(connect: Connect, repeat: str, gateway: bool) -> None:
    alice, bob = connect("alice"), connect("bob")
    process_id = alice.launch_detached(repeat, '{"n": 1}')
    if gateway:
        assert bob.ids() == {process_id}
        assert bob.attach(process_id) == ATTACHED
    else:
        assert bob.ids() == set()
        assert bob.attach(process_id) == bob.terminate(process_id) == (False, "Permission denied")
        assert alice.ids() == {process_id}


def test_signals_queue_up(server: LocalServer, client: ProcessClient) -> None:
    go = threading.Event()

    @server.program("late")
    def late(ctx: ProgramContext) -> list[str]:
        assert go.wait(PATIENCE)
        return [ctx.receive() for _ in range(3)]

    process_id = client.launch("late")
    for number in range(3):
        client.signal(process_id, str(number))
    client.assert_unanswered()
    go.set()
    assert list(client.events(process_id)) == [("return", '["0", "1", "2"]')]


def test_signals_of_the_unattached_are_ignored(connect: Connect, repeat: str) -> None:
    owner, other = connect(), connect()
    attached, detached = owner.launch(repeat), owner.launch_detached(repeat, '{"n": 1}')
    for process_id in (attached, detached, UNKNOWN_ID, "nonsense"):
        other.signal(process_id, "done")
    other.assert_unanswered()
    owner.signal(detached, "done")
    assert owner.attach(detached) == ATTACHED
    owner.signal(attached, "one")
    assert [owner.event(), owner.event()] == [("stdout", "one"), ("message", "one")]
    owner.signal(detached, "two")
    assert owner.event() == ("message", "two")


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (None, ""),
        ("text", "text"),
        ('"', '"'),
        ([1, "é", 1.5], '[1, "\\u00e9", 1.5]'),
        ({"a": None}, '{"a": null}'),
        (0, "0"),
        (False, "false"),
    ],
)
def test_what_a_program_returns(server: LocalServer, client: ProcessClient, result: object, value: str) -> None:
    server.program("tool")(lambda ctx: result)
    assert list(client.events(client.launch("tool"))) == [("return", value)]


def test_what_has_no_json_is_an_error(server: LocalServer, client: ProcessClient) -> None:
    server.program("tool")(lambda ctx: {1, 2})
    ((event, value),) = client.events(client.launch("tool"))
    assert event == "error"
    assert value.startswith("TypeError: ")


def test_what_a_program_raises(server: LocalServer, client: ProcessClient) -> None:
    @server.program("faulty")
    def faulty(ctx: ProgramContext) -> None:
        raise ValueError("broken")

    assert list(client.events(client.launch("faulty"))) == [("error", "ValueError: broken")]


def test_everything_a_program_prints_and_sends(server: LocalServer, client: ProcessClient) -> None:
    @server.program("everything")
    def everything(ctx: ProgramContext) -> None:
        ctx.stdout("out")
        ctx.stderr("err")
        ctx.send(f"{ctx.username} {ctx.instance_id}")

    process_id = client.launch("everything")
    who = "internal" if client.gateway else "alice"
    assert list(client.events(process_id)) == [
        ("stdout", "out"),
        ("stderr", "err"),
        ("message", f"{who} {process_id}"),
        ("return", ""),
    ]


def test_many_short_processes_on_one_connection(server: LocalServer, client: ProcessClient) -> None:
    server.program("answer")(lambda ctx: ctx.input["n"])
    for number in range(500):
        text = json.dumps({"n": number})
        client.send("launch_process", corr_id=number, inferlet="answer@0.1.0", input=text, capture_outputs=True)
    messages = [client.receive() for _ in range(1000)]
    assert sorted(int(m["value"]) for m in messages if m["type"] == "process_event") == list(range(500))
    assert client.list() == []


def test_close_ends_processes_and_connections(connect: Connect, protocol: str) -> None:
    before = set(threading.enumerate())
    with LocalServer(protocol=protocol) as server:
        server.program("waiting")(lambda ctx: ctx.receive())
        client = connect(to=server)
        client.launch("waiting")
        client.launch("waiting", capture=False)
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < PATIENCE
    assert set(threading.enumerate()) <= before


def test_queries(client: ProcessClient) -> None:
    ok, status = client.ask("query", subject="model_status", record="")
    assert ok
    assert isinstance(json.loads(status), dict)
    if client.gateway:
        text = 'unknown query subject "weather" (known: model_status)'
        assert client.ask("query", subject="weather", record="") == (False, text)
    else:
        client.send("query", corr_id=9, subject="weather", record="")
        client.assert_unanswered()


def test_the_uri_has_no_path(server: LocalServer) -> None:
    assert server.uri == f"ws://127.0.0.1:{server.port}"


def test_requests_are_logged(connect: Connect, gateway: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pie_sync.testing.requests")
    client = connect(None, header=["x-pie-identity: a/b"])
    client.ask("auth_identify", username="alice")
    client.assert_unanswered()
    (path, headers), *messages = (
        record.args for record in caplog.records if record.name == "pie_sync.testing.requests"
    )
    assert path == ("/v1/ws" if gateway else "/")
    assert headers["x-pie-identity"] == "a/b"
    assert messages == [("auth_identify",), ("ping",)]
