"""What is queued for a client: its order, its delay, and what happens when a client does not read."""

from __future__ import annotations

import math
import threading
import time

import pytest

from pie_sync import Event, PieClient, PieConnectionError, PieTimeoutError
from pie_sync.testing import LocalServer, ProgramContext
from tests.testing.conftest import Connect
from tests.testing.raw import CLOSE_LIMIT, COMPLETED, PATIENCE, RawClient

every_protocol = pytest.mark.parametrize(
    "pie_server",
    [{"protocol": protocol} for protocol in ("instance", "process", "process-0.5")],
    indirect=True,
    ids=lambda options: options["protocol"],
)


@every_protocol
def test_a_call_times_out_and_later_ones_work_again(pie_server: LocalServer, pie_client: PieClient) -> None:
    pie_server.delay(0.3)
    with pytest.raises(PieTimeoutError):
        pie_client.ping(timeout=0.05)
    assert pie_client.ping() >= 0.3
    pie_server.delay(0)
    pie_client.ping()
    pie_server.program("quick@0.1.0")(lambda ctx: "done")
    assert pie_client.run("quick@0.1.0", timeout=PATIENCE).message == "done"


@every_protocol
def test_events_come_as_late_as_answers(pie_server: LocalServer, pie_client: PieClient) -> None:
    received, go = threading.Event(), threading.Event()

    @pie_server.program("program@0.1.0")
    def program(ctx: ProgramContext) -> str:
        ctx.receive(PATIENCE)
        go.wait(PATIENCE)
        ctx.send("late")
        received.set()
        return "later"

    instance = pie_client.launch_instance_from_registry("program@0.1.0")
    pie_server.delay(math.inf)
    instance.send("begin")  # is not held up
    go.set()
    assert received.wait(PATIENCE)
    with pytest.raises(PieTimeoutError):
        instance.recv(timeout=0.05)
    pie_server.delay(0)
    assert list(instance.events(PATIENCE)) == [(Event.Message, "late"), (Event.Completed, "later")]


def test_whatever_the_delay_the_order_stays(server: LocalServer, client: RawClient) -> None:
    steps = [threading.Event() for _ in range(4)]

    @server.program("program")
    def program(ctx: ProgramContext) -> None:
        for number in range(400):
            if number % 100 == 50:
                steps[number // 100].wait(PATIENCE)
            ctx.send(str(number))

    instance_id = client.launch("program")
    for step, seconds in zip(steps, (0.02, math.inf, 0.001, 0)):
        server.delay(seconds)
        step.set()
    *messages, end = client.events(instance_id)
    assert [text for _, text in messages] == [str(number) for number in range(400)]
    assert end == (COMPLETED, "")


def test_each_message_is_late_by_the_delay_and_not_by_their_sum(server: LocalServer, client: RawClient) -> None:
    server.delay(0.2)
    started = time.monotonic()
    for corr_id in range(100, 150):
        client.send("ping", corr_id=corr_id)
    assert [client.receive()["corr_id"] for _ in range(50)] == list(range(100, 150))
    assert 0.2 <= time.monotonic() - started < 5


def test_a_change_holds_for_what_is_held_back(server: LocalServer, client: RawClient, repeat: str) -> None:
    server.delay(3600)
    client.send("ping", corr_id=100)
    server.delay(0.05)
    assert client.receive()["corr_id"] == 100


def test_it_holds_for_new_connections(pie_server: LocalServer) -> None:
    pie_server.delay(math.inf)
    with PieClient(pie_server.uri) as client:  # is let in at once
        with pytest.raises(PieTimeoutError):
            client.authenticate("tester", timeout=0.05)
        pie_server.delay(0)
    with PieClient(pie_server.uri) as client:
        client.authenticate("tester")


def test_what_a_program_prints_waits_for_room_and_arrives(server: LocalServer, client: RawClient) -> None:
    printed = 0

    @server.program("chatty")
    def chatty(ctx: ProgramContext) -> None:
        nonlocal printed
        for _ in range(400):
            ctx.stdout("x" * 10_000)
            printed += 1

    instance_id = client.launch("chatty")
    server.delay(0.05)
    stdout, _, end = client.output(instance_id)
    assert (len(stdout), end) == (4_000_000, (COMPLETED, ""))
    assert printed == 400


def test_what_is_held_back_is_kept_when_the_connection_drops(server: LocalServer, connect: Connect) -> None:
    sent = threading.Event()

    @server.program("program")
    def program(ctx: ProgramContext) -> str:
        ctx.receive(PATIENCE)
        ctx.stdout("held back")
        sent.set()
        return "done"

    first = connect()
    instance_id = first.launch("program")
    server.delay(math.inf)
    first.signal(instance_id, "begin")
    assert sent.wait(PATIENCE)
    server.drop_connections()
    server.delay(0)
    second = connect()
    assert second.attach(instance_id) == (True, "Instance attached")
    assert [text for _, text in second.events(instance_id)] == ["held back", "done"]


def test_a_refusal_is_sent_before_the_connection_ends(connect: Connect) -> None:
    with LocalServer(users={"alice": []}) as server:
        client = connect(None, to=server)
        server.delay(0.05)
        client.send("identification", corr_id=100, username="mallory")
        client.send("ping", corr_id=101)  # not without authentication
        assert client.receive()["successful"] is False
        client.assert_closed()


def test_close_does_not_wait_for_what_is_held_back(connect: Connect) -> None:
    before = set(threading.enumerate())
    with LocalServer(users={"alice": []}) as server:
        client, refused = connect(None, to=server), connect(None, to=server)
        server.delay(math.inf)
        client.send("identification", corr_id=100, username="mallory")
        refused.send("identification", corr_id=100, username="mallory")
        refused.send("ping", corr_id=101)
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < CLOSE_LIMIT
    assert set(threading.enumerate()) <= before
    client.assert_closed()
    refused.assert_closed()


def test_a_call_that_waits_ends_with_the_server(pie_server: LocalServer, pie_client: PieClient) -> None:
    pie_server.delay(math.inf)
    closer = threading.Timer(0.05, pie_server.close)
    closer.start()
    with pytest.raises(PieConnectionError):
        pie_client.ping(timeout=PATIENCE)
    closer.join()


def test_a_connection_can_be_dropped_while_a_refusal_is_held_back(connect: Connect) -> None:
    with LocalServer(users={"alice": []}) as server:
        client = connect(None, to=server)
        assert client.request("identification", username="mallory")["successful"] is False
        server.delay(math.inf)
        client.send("identification", corr_id=100, username="mallory")
        client.send("ping", corr_id=101)
        server.drop_connections()
        client.assert_closed()


SENT_LIMIT = 40_000  # kilobytes: more than the sockets' buffers and the server's queue hold


def wait_until_it_blocks(sent: list[int]) -> None:
    """Wait until a program no longer gets on (the same count, half a second later) or is past all bounds."""
    before = -1
    while before < sent[0] < SENT_LIMIT:
        before = sent[0]
        threading.Event().wait(0.5)


def test_a_client_that_does_not_read_stops_only_its_own_programs(
    server: LocalServer, connect: Connect, repeat: str
) -> None:
    sent, ended = [0], threading.Event()

    @server.program("counted-flood")
    def counted(ctx: ProgramContext) -> None:
        try:
            while True:
                ctx.send("x" * 1000)
                sent[0] += 1
        finally:
            ended.set()

    stalled, reader = connect(), connect()
    instance_id = stalled.launch("counted-flood")
    wait_until_it_blocks(sent)
    assert sent[0] < SENT_LIMIT

    echo = reader.launch(repeat)
    reader.signal(echo, "still served")
    assert reader.receive()["message"] == "still served"
    assert reader.statuses()[instance_id] == "Attached"
    # The blocked program notices, although nothing can be sent.
    assert reader.terminate(instance_id)[0]
    assert ended.wait(PATIENCE)
