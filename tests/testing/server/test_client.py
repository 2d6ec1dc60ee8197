"""The end of a client's connection, and what becomes of its instances and their output."""

from __future__ import annotations

import itertools
import re
import threading
import time

import pytest

from pie_sync.testing import LocalServer, ProgramContext
from pie_sync.testing._dialects import instance as _instance_dialect
from tests.testing.conftest import Connect
from tests.testing.raw import CLOSE_LIMIT, COMPLETED, ClosedError, RawClient


def flood(server: LocalServer) -> threading.Event:
    """Register a program that sends messages without an end; the event is set at its end."""
    ended = threading.Event()

    @server.program("flood")
    def flood(ctx: ProgramContext) -> None:
        try:
            for number in itertools.count():
                ctx.stdout(f"{number} {'x' * 1000}\n")
        finally:
            ended.set()

    return ended


def test_a_client_that_does_not_read_does_not_delay_the_servers_end(connect: Connect) -> None:
    with LocalServer() as server:
        ended = flood(server)
        client = connect(to=server)
        client.launch("flood")
        client.launch("flood")
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < CLOSE_LIMIT
        assert ended.is_set()


def numbers_until_closed(client: RawClient) -> list[int]:
    numbers = []
    try:
        while True:
            numbers += received_numbers(client)
    except ClosedError:
        return numbers


def received_numbers(client: RawClient) -> list[int]:
    """Receive an event, and return the numbers in its lines. The first of kept lines may lack its beginning."""
    lines = re.findall(r"^([0-9]+) x{1000}\n", client.receive()["output"]["Stdout"], re.MULTILINE)
    return [int(number) for number in lines]


def test_dropping_connections_detaches_and_nothing_comes_twice(server: LocalServer, connect: Connect) -> None:
    @server.program("numbers")
    def numbers(ctx: ProgramContext) -> None:
        for number in range(20_000):
            ctx.stdout(f"{number} {'x' * 1000}\n")
        ctx.receive()

    client = connect()
    instance_id = client.launch("numbers")
    received = received_numbers(client)
    assert received == [0]
    for _ in range(4):
        dropper = threading.Thread(target=server.drop_connections)
        dropper.start()
        received += numbers_until_closed(client)
        dropper.join()
        client = connect()
        assert client.statuses() == {instance_id: "Detached"}
        assert client.attach(instance_id) == (True, "Instance attached")
    while received[-1] < 19_999:
        received += received_numbers(client)
    assert received == sorted(set(received))


def test_an_end_that_could_not_be_sent_is_kept(server: LocalServer, connect: Connect) -> None:
    @server.program("blocked")
    def blocked(ctx: ProgramContext) -> str:
        ctx.send_blob(bytes(64 * 1024 * 1024))  # more than a client that does not read can take
        ctx.stderr("after the blob")
        return "end"

    stalled, other = connect(), connect()
    instance_id = stalled.launch("blocked")
    while other.statuses():
        pass  # the server has its end, and forgets an attached instance then
    server.drop_connections()
    client = connect()
    assert client.statuses() == {instance_id: "Finished"}
    assert client.attach(instance_id) == (True, "Instance attached")
    assert list(client.events(instance_id)) == [("Stderr", "after the blob"), (COMPLETED, "end")]
    assert client.statuses() == {}


def test_a_fault_while_sending_ends_the_connection(
    client: RawClient, repeat: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    instance_id = client.launch(repeat)

    def pack(_message: object) -> bytes:
        raise RuntimeError("broken")

    monkeypatch.setattr(_instance_dialect, "pack", pack)
    client.signal(instance_id, "hello")
    client.assert_closed()
    (record,) = (record for record in caplog.records if record.name == "pie_sync.testing")
    assert record.getMessage() == "could not send to a client"
