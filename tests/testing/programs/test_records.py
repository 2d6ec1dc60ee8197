"""What a server remembers of its instances: launches, what their programs received, and how they ended."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from pie_sync import Event, PieClient
from pie_sync._protocol.program_names import content_version
from pie_sync.testing import InstanceRecord, LocalServer, ProgramContext
from pie_sync.testing._programs import records as _records
from tests.testing import programs

PATIENCE = 20.0  # seconds
PROFILES = [
    {"protocol": "instance", "variant": "hash"},
    {"protocol": "instance", "variant": "name"},
    {"protocol": "process"},
    {"protocol": "process-0.5"},
]


every_profile = pytest.mark.parametrize(
    "pie_server", PROFILES, indirect=True, ids=lambda options: " ".join(options.values())
)


def add_listener(server: LocalServer) -> None:
    """A program that receives as many messages as the client says first, and then a blob."""

    @server.program("listener@0.1.0")
    def listener(ctx: ProgramContext) -> str:
        for _ in range(int(ctx.receive(PATIENCE))):
            ctx.receive(PATIENCE)
        ctx.send("now the blob")
        ctx.receive_blob(PATIENCE)
        return "enough"


@every_profile
def test_a_record_is_complete_when_wait_returns(pie_server: LocalServer, pie_client: PieClient) -> None:
    add_listener(pie_server)
    for number in range(20):
        instance = pie_client.launch_instance_from_registry("listener@0.1.0", ["--number", str(number)])
        sent = ["2", f"first {number}", "second"]
        for message in sent:
            instance.send(message)
        assert instance.recv(PATIENCE) == (Event.Message, "now the blob")
        instance.upload_blob(b"blob")
        instance.wait(PATIENCE)
        record = pie_server.instances[-1]
        assert (record.id, record.program, record.received) == (instance.id, "listener@0.1.0", (*sent, b"blob"))
        assert (record.event, record.message) == (Event.Completed, "enough")
    assert len(pie_server.instances) == 20


@every_profile
def test_the_arguments_are_what_the_program_got(pie_server: LocalServer, pie_client: PieClient) -> None:
    contexts = []
    pie_server.program("program@0.1.0")(contexts.append)
    pie_client.launch_instance_from_registry("program@0.1.0", {"words": 5}).wait(PATIENCE)
    (record,), (context,) = pie_server.instances, contexts
    assert (list(record.args), record.input) == (context.args, context.input)
    assert (record.id, record.username) == (context.instance_id, context.username)


@every_profile
def test_a_webassembly_program_is_recorded_as_well(pie_server: LocalServer, pie_client: PieClient) -> None:
    program_hash = pie_client.upload_program(programs.ECHO)
    instance = pie_client.launch_instance(program_hash)
    instance.send("hello")
    printed = ""
    while not printed.endswith("\n"):
        event, data = instance.recv(PATIENCE)
        assert event is Event.Stdout
        printed += str(data)
    (record,) = pie_server.instances
    assert (record.received, record.event) == (("hello",), None)
    by_hash = {"instance": program_hash, "process": f"pie-sync@{content_version(program_hash)}"}
    assert record.program in (by_hash[str(pie_client.protocol)], f"pie-sync/{program_hash}@1.0.0")
    instance.terminate()
    instance.wait(PATIENCE)
    assert pie_server.instances[0].event is Event.Aborted


def test_a_failure_is_recorded_with_its_text(pie_server: LocalServer, pie_client: PieClient) -> None:
    @pie_server.program("failing")
    def failing(ctx: ProgramContext) -> None:
        raise MemoryError("too long")

    pie_client.launch_instance_from_registry("failing").wait(PATIENCE)
    (record,) = pie_server.instances
    assert (record.event, record.message) == (Event.Exception, "MemoryError: too long")


def test_a_detached_instance_is_recorded(pie_server: LocalServer, pie_client: PieClient) -> None:
    pie_server.program("quick")(lambda ctx: "done")
    launched = pie_client.launch_instance_from_registry("quick", detached=True)
    pie_client.attach_instance(launched.id).wait(PATIENCE)
    (record,) = pie_server.instances
    assert record == InstanceRecord(launched.id, "quick", "tester", (), (), Event.Completed, "done")


def test_what_no_program_took_was_not_received(pie_server: LocalServer, pie_client: PieClient) -> None:
    waiting = threading.Event()

    @pie_server.program("deaf")
    def deaf(ctx: ProgramContext) -> None:
        waiting.wait(PATIENCE)

    instance = pie_client.launch_instance_from_registry("deaf")
    instance.send("anybody there?")
    pie_client.ping()  # it has arrived
    waiting.set()
    instance.wait(PATIENCE)
    assert pie_server.instances[0].received == ()


def test_a_refused_launch_has_no_record(pie_server: LocalServer, pie_client: PieClient) -> None:
    with pytest.raises(Exception, match="Failed to download inferlet"):
        pie_client.launch_instance_from_registry("unknown")
    assert pie_server.instances == []


def test_a_list_that_was_got_does_not_change(pie_server: LocalServer, pie_client: PieClient) -> None:
    pie_server.program("quick")(lambda ctx: None)
    before = pie_server.instances
    pie_client.run("quick")
    assert before == []
    (record,) = pie_server.instances
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.message = "another"  # type: ignore[misc]


def test_the_records_outlive_the_server() -> None:
    with LocalServer() as server, PieClient(server.uri) as client:
        client.authenticate("tester")
        server.program("waiting")(lambda ctx: ctx.receive())
        client.launch_instance_from_registry("waiting")
    (record,) = server.instances
    assert record.event is Event.Aborted


def test_a_program_receives_nothing_after_its_end_was_told(pie_server: LocalServer, pie_client: PieClient) -> None:
    @pie_server.program("greedy")
    def greedy(ctx: ProgramContext) -> None:
        while True:
            ctx.receive()

    for _ in range(50):
        instance = pie_client.launch_instance_from_registry("greedy")
        for number in range(20):
            instance.send(str(number))
        instance.terminate()
        instance.wait(PATIENCE)
        record = pie_server.instances[-1]
        pie_client.ping()
        assert pie_server.instances[-1] == record


def test_the_oldest_instances_are_forgotten(
    pie_server: LocalServer, pie_client: PieClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_records, "MAX_INSTANCES", 3)
    pie_server.program("quick")(lambda ctx: None)
    for number in range(5):
        pie_client.run("quick", [str(number)])
    assert [record.args for record in pie_server.instances] == [("2",), ("3",), ("4",)]


def test_records_that_hold_much_go_as_a_whole(
    pie_server: LocalServer, pie_client: PieClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_records, "MAX_SIZE", 10_000)
    taken = threading.Semaphore(0)

    @pie_server.program("listener")
    def listener(ctx: ProgramContext) -> None:
        while ctx.receive() != "end":
            taken.release()

    first = pie_client.launch_instance_from_registry("listener", ["first"])
    second = pie_client.launch_instance_from_registry("listener", ["second"])
    for instance in (first, second, first):
        instance.send("x" * 4000)
        assert taken.acquire(timeout=PATIENCE)
    assert [(record.args, len(record.received)) for record in pie_server.instances] == [(("second",), 1)]
    for instance in (first, second):  # of the first one, nothing more is noted
        instance.send("end")
        instance.wait(PATIENCE)
    assert [record.event for record in pie_server.instances] == [Event.Completed]
    pie_client.run("listener", input="end")
    pie_client.run("listener", ["x" * 20_000], input="end")  # more than all that there's room for
    assert pie_server.instances == []


def test_records_of_many_threads_are_complete(pie_server: LocalServer, pie_client: PieClient) -> None:
    @pie_server.program("counting")
    def counting(ctx: ProgramContext) -> None:
        for _ in range(10):
            ctx.receive(PATIENCE)

    def run() -> None:
        for _ in range(10):
            instance = pie_client.launch_instance_from_registry("counting")
            for number in range(10):
                instance.send(f"{number}")
            instance.wait(PATIENCE)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            assert len(pie_server.instances) <= 80
            thread.join(0.01)
    assert {record.received for record in pie_server.instances} == {tuple(map(str, range(10)))}
    assert len(pie_server.instances) == 80
