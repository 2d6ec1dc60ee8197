"""Files, as the process protocol calls blobs: both ways, with names, and dropped when no program waits."""

from __future__ import annotations

import threading
import time

import pytest
from blake3 import blake3

from pie_sync.testing import LocalServer, ProgramContext
from pie_sync.testing._dialects import process as _process_dialect
from tests.testing.conftest import Connect
from tests.testing.raw import CHUNK_SIZE, PATIENCE, chunks
from tests.testing.raw_process import ProcessClient


@pytest.fixture(params=["process", "process-0.5"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sizes(server: LocalServer) -> str:
    """The name of a program that waits for a file whenever it is told to, and then tells its size."""

    @server.program("sizes")
    def sizes(ctx: ProgramContext) -> None:
        while True:
            ctx.send("waiting for a message")
            ctx.receive()
            ctx.send("waiting for a file")
            ctx.send(str(len(ctx.receive_blob())))

    return "sizes"


def launch(client: ProcessClient, name: str) -> str:
    process_id = client.launch(name)
    assert client.event() == ("message", "waiting for a message")
    return process_id


def let_wait(client: ProcessClient, process_id: str) -> None:
    client.signal(process_id, "")
    assert client.event() == ("message", "waiting for a file")


def assert_waiting(client: ProcessClient, process_id: str) -> None:
    """Whatever was sent to the program before did not reach it: it takes this file."""
    client.transfer(process_id, b"12345")
    assert client.event() == ("message", "5")
    assert client.event() == ("message", "waiting for a message")


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, CHUNK_SIZE + 1, 5 * CHUNK_SIZE])
def test_a_file_of_any_size_arrives(client: ProcessClient, sizes: str, size: int) -> None:
    process_id = launch(client, sizes)
    let_wait(client, process_id)
    client.transfer(process_id, bytes(size))
    assert client.event() == ("message", str(size))


def test_a_file_is_dropped_when_the_program_waits_for_something_else(client: ProcessClient, sizes: str) -> None:
    process_id = launch(client, sizes)
    client.transfer(process_id, b"dropped")
    let_wait(client, process_id)
    assert_waiting(client, process_id)


def test_a_file_is_dropped_when_the_program_does_not_wait(server: LocalServer, client: ProcessClient) -> None:
    go = threading.Event()

    @server.program("busy")
    def busy(ctx: ProgramContext) -> str:
        assert go.wait(PATIENCE)
        with pytest.raises(TimeoutError):
            ctx.receive_blob(timeout=0)
        return "nothing came"

    process_id = client.launch("busy")
    client.transfer(process_id, b"dropped")
    client.assert_unanswered()
    go.set()
    assert list(client.events(process_id)) == [("return", "nothing came")]


def test_a_program_that_has_just_spoken_may_be_on_its_way(
    server: LocalServer, client: ProcessClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_process_dialect, "BLOB_WAIT", PATIENCE)
    go = threading.Event()

    @server.program("slow")
    def slow(ctx: ProgramContext) -> str:
        ctx.send("ready")
        assert go.wait(PATIENCE)
        return str(len(ctx.receive_blob()))

    process_id = client.launch("slow")
    assert client.event() == ("message", "ready")
    client.transfer(process_id, b"123")
    timer = threading.Timer(0.05, go.set)  # whether the file is there by then makes no difference
    timer.start()
    assert list(client.events(process_id)) == [("return", "3")]
    timer.join()


def test_a_terminated_program_does_not_keep_a_file_waiting(
    server: LocalServer, client: ProcessClient, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_process_dialect, "BLOB_WAIT", 2 * PATIENCE)
    go = threading.Event()

    @server.program("stuck")
    def stuck(ctx: ProgramContext) -> None:
        ctx.send("ready")
        go.wait(PATIENCE)

    process_id = client.launch("stuck")
    assert client.event() == ("message", "ready")
    client.transfer(process_id, b"123")
    other = connect()
    started = time.monotonic()
    assert other.terminate(process_id)[0]
    assert client.event() == ("error", "Signal")
    client.assert_unanswered()
    assert time.monotonic() - started < PATIENCE
    go.set()


def test_a_file_that_does_not_match_its_hash_is_dropped(client: ProcessClient, sizes: str) -> None:
    process_id = launch(client, sizes)
    let_wait(client, process_id)
    client.transfer(process_id, b"abc", file_hash="0" * 64)
    assert_waiting(client, process_id)


def test_bad_chunks_are_dropped_with_their_file(client: ProcessClient, sizes: str) -> None:
    process_id = launch(client, sizes)
    let_wait(client, process_id)
    file = b"x" * (CHUNK_SIZE + 1)
    first, second = chunks(file)
    for chunk in (second, first, first, second, {**first, "total_chunks": 0}, {**first, "chunk_index": 7}):
        client.send("transfer_file", process_id=process_id, file_hash=blake3(file).hexdigest(), **chunk)
    client.assert_unanswered()
    assert_waiting(client, process_id)


def test_files_are_told_apart_by_their_hash(client: ProcessClient, sizes: str) -> None:
    process_id = launch(client, sizes)
    let_wait(client, process_id)
    one, two = b"1" * (CHUNK_SIZE + 1), b"2" * (CHUNK_SIZE + 2)
    for first, second in zip(chunks(one), chunks(two)):
        client.send("transfer_file", process_id=process_id, file_hash=blake3(one).hexdigest(), **first)
        client.send("transfer_file", process_id=process_id, file_hash=blake3(two).hexdigest(), **second)
    # The first of them to be complete is taken, and nobody waits for the other.
    assert client.event() == ("message", str(len(one)))
    assert client.event() == ("message", "waiting for a message")
    let_wait(client, process_id)
    assert_waiting(client, process_id)


def test_a_file_is_for_the_attached_only(connect: Connect, sizes: str) -> None:
    owner, other = connect(), connect()
    process_id = launch(owner, sizes)
    let_wait(owner, process_id)
    for target in (process_id, "nonsense"):
        other.transfer(target, b"abc")
    other.assert_unanswered()
    assert_waiting(owner, process_id)


@pytest.mark.parametrize("size", [1, CHUNK_SIZE, 2 * CHUNK_SIZE + 1])
@pytest.mark.parametrize("name", [None, "", "../é.png"])
def test_a_file_from_the_program(server: LocalServer, client: ProcessClient, size: int, name: str | None) -> None:
    file = bytes(range(256)) * (size // 256) + bytes(size % 256)
    server.program("sender")(lambda ctx: ctx.send_blob(file, name))
    process_id = client.launch("sender")
    assert client.receive_file(process_id) == (file, name if client.gateway else None)
    assert client.event() == ("return", "")


def test_an_empty_file_is_never_sent(server: LocalServer, client: ProcessClient) -> None:
    server.program("empty")(lambda ctx: ctx.send_blob(b"", name="empty"))
    assert list(client.events(client.launch("empty"))) == [("return", "")]


def test_a_name_must_be_a_text(server: LocalServer, client: ProcessClient) -> None:
    server.program("misuse")(lambda ctx: ctx.send_blob(b"x", name=5))
    ((event, value),) = client.events(client.launch("misuse"))
    assert event == "error"
    assert value.startswith("TypeError: ")
