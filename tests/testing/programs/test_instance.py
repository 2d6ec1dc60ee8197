"""The life of an instance: attached, detached, finished; which client gets its output, and in which order."""

from __future__ import annotations

import math
import threading
import uuid

import pytest

from pie_sync.testing import LocalServer, ProgramContext
from pie_sync.testing._programs.python_program import PythonProgram
from tests.testing.conftest import Connect
from tests.testing.raw import ABORTED, COMPLETED, PATIENCE, SERVER_ERROR, RawClient

UNKNOWN_ID = str(uuid.UUID(int=5))
ATTACHED = (True, "Instance attached")


def test_the_launch_result_comes_before_the_first_output(server: LocalServer, client: RawClient) -> None:
    server.program("quick")(lambda ctx: ctx.send("first"))
    for corr_id in range(100, 200):
        client.send(
            "launch_instance_from_registry", corr_id=corr_id, inferlet="quick", arguments=[], detached=False
        )
    launched: dict[str, list[object]] = {}
    while len(launched) < 100 or any(len(seen) < 2 for seen in launched.values()):
        message = client.receive()
        if message["type"] == "instance_launch_result":
            launched[message["message"]] = []
        else:
            launched[message["instance_id"]].append(message["message"])
    assert set(map(tuple, launched.values())) == {("first", "")}


def test_an_attached_instance_is_listed_until_it_ends(client: RawClient, repeat: str) -> None:
    instance_id = client.launch(repeat, "an", "argument")
    answer = client.request("list_instances")
    (entry,) = answer["instances"]
    assert isinstance(entry.pop("elapsed_secs"), int)
    assert entry == {
        "id": instance_id,
        "arguments": ["an", "argument"],
        "status": "Attached",
        "username": "alice",
        "kv_pages_used": 0,
    }
    client.signal(instance_id, "done")
    assert list(client.events(instance_id)) == [(COMPLETED, "bye")]
    assert client.statuses() == {}
    assert client.attach(instance_id) == (False, "Instance not found")


def test_a_detached_launch_keeps_its_output_for_the_first_who_attaches(
    server: LocalServer, client: RawClient, connect: Connect
) -> None:
    sent, go = threading.Event(), threading.Event()

    @server.program("writer")
    def writer(ctx: ProgramContext) -> str:
        ctx.stdout("one")
        ctx.send("two")
        ctx.send_blob(b"three")
        sent.set()
        assert go.wait(PATIENCE)
        ctx.send("four")
        return "five"

    instance_id = client.launch("writer", detached=True)
    assert sent.wait(PATIENCE)
    client.assert_unanswered()
    assert client.statuses() == {instance_id: "Detached"}
    other = connect("alice")
    assert other.attach(instance_id) == ATTACHED
    events = other.events(instance_id)
    assert next(events) == ("Stdout", "one")  # messages and blobs are not kept
    assert client.statuses() == {instance_id: "Attached"}
    go.set()
    assert list(other.events(instance_id)) == [(0, "four"), (COMPLETED, "five")]
    client.assert_unanswered()


def test_a_finished_instance_stays_until_somebody_attaches(server: LocalServer, client: RawClient) -> None:
    server.program("short")(lambda ctx: ctx.stdout("result"))
    instance_id = client.launch("short", detached=True)
    while client.statuses()[instance_id] != "Finished":
        pass
    assert client.attach(instance_id) == ATTACHED
    assert list(client.events(instance_id)) == [("Stdout", "result"), (COMPLETED, "")]
    assert client.statuses() == {}
    assert client.attach(instance_id) == (False, "Instance not found")


def test_a_finished_instance_is_forgotten_when_terminated(server: LocalServer, client: RawClient) -> None:
    server.program("short")(lambda ctx: None)
    instance_id = client.launch("short", detached=True)
    while client.statuses()[instance_id] != "Finished":
        pass
    assert client.terminate(instance_id)[0]
    assert client.statuses() == {}
    assert client.attach(instance_id) == (False, "Instance not found")
    client.assert_unanswered()


@pytest.mark.parametrize("vanish", [False, True], ids=["closed", "lost"])
def test_losing_the_connection_detaches(connect: Connect, repeat: str, vanish: bool) -> None:
    first, second = connect(), connect()
    instance_id = first.launch(repeat)
    first.signal(instance_id, "one")
    assert first.receive()["message"] == "one"
    first.vanish() if vanish else first.close()
    while second.attach(instance_id) != ATTACHED:
        pass
    second.signal(instance_id, "two")
    second.signal(instance_id, "done")
    assert list(second.events(instance_id)) == [(0, "two"), (COMPLETED, "bye")]


def test_what_a_program_prints_without_a_connection_is_kept(server: LocalServer, connect: Connect) -> None:
    go, finished = threading.Event(), threading.Event()

    @server.program("patient")
    def patient(ctx: ProgramContext) -> str:
        ctx.send("before")
        assert go.wait(PATIENCE)
        for number in range(1000):
            ctx.stderr(f"{number} ")
            ctx.stdout(f"{number}\n")
            ctx.send("dropped")
        finished.set()
        return "end"

    first, second = connect(), connect()
    instance_id = first.launch("patient")
    assert first.receive()["message"] == "before"
    first.vanish()
    while second.statuses()[instance_id] == "Attached":
        pass
    go.set()
    assert finished.wait(PATIENCE)
    assert second.attach(instance_id) == ATTACHED
    assert list(second.events(instance_id)) == [
        ("Stdout", "".join(f"{number}\n" for number in range(1000))),
        ("Stderr", "".join(f"{number} " for number in range(1000))),
        (COMPLETED, "end"),
    ]


def test_output_that_was_attached_but_not_sent_is_kept(
    server: LocalServer, client: RawClient, connect: Connect
) -> None:
    server.program("short")(lambda ctx: ctx.stdout("result"))
    instance_id = client.launch("short", detached=True)
    while client.statuses()[instance_id] != "Finished":
        pass
    server.delay(math.inf)
    client.send("attach_instance", corr_id=50, instance_id=instance_id)
    while server._core.instances():
        pass  # until all its output is queued for the client, and the server forgets it
    server.drop_connections()
    server.delay(0)
    client.assert_closed()
    other = connect()
    assert other.attach(instance_id) == ATTACHED
    assert list(other.events(instance_id)) == [("Stdout", "result"), (COMPLETED, "")]


def test_a_fault_of_the_server_ends_the_instance(
    server: LocalServer, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_program: PythonProgram, _instance: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(PythonProgram, "run", run)
    server.program("tool")(lambda ctx: None)
    assert list(client.events(client.launch("tool"))) == [(SERVER_ERROR, "RuntimeError: broken")]


def test_one_attachment_at_a_time(connect: Connect, repeat: str) -> None:
    first, second = connect(), connect()
    instance_id = first.launch(repeat)
    assert second.attach(instance_id) == (False, "Instance already attached")
    assert first.attach(instance_id) == (False, "Instance already attached")
    first.signal(instance_id, "still mine")
    assert first.receive()["message"] == "still mine"


def test_terminate_sends_aborted_to_whoever_is_attached(connect: Connect, repeat: str) -> None:
    first, second = connect(), connect()
    instance_id = first.launch(repeat)
    assert second.terminate(instance_id)[0]
    assert list(first.events(instance_id)) == [(ABORTED, "Signal termination")]
    assert second.statuses() == {}
    second.assert_unanswered()
