"""Programs that are Python functions, and their context."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pie_sync.testing import LocalServer, ProgramContext
from tests.testing.raw import ABORTED, COMPLETED, EXCEPTION, PATIENCE, RawClient


def test_messages_blobs_and_output(server: LocalServer, client: RawClient) -> None:
    @server.program("everything")
    def everything(ctx: ProgramContext) -> str:
        ctx.stdout("out")
        ctx.stderr("err")
        ctx.send(" ".join(ctx.args))
        ctx.send(ctx.receive() + "!")
        ctx.send_blob(ctx.receive_blob()[::-1])
        return "done"

    instance_id = client.launch("everything", "a", "b")
    events = client.events(instance_id)
    assert [next(events) for _ in range(3)] == [("Stdout", "out"), ("Stderr", "err"), (0, "a b")]
    client.signal(instance_id, "hello")
    assert next(events) == (0, "hello!")
    answer = client.upload_blob(instance_id, b"abc")
    assert (answer["type"], answer["successful"]) == ("response", True)
    assert client.receive_blob(instance_id) == b"cba"
    assert list(events) == [(COMPLETED, "done")]


def test_returning_nothing_completes_with_an_empty_text(server: LocalServer, client: RawClient) -> None:
    server.program("nothing")(lambda ctx: None)
    assert list(client.events(client.launch("nothing"))) == [(COMPLETED, "")]


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (ValueError("broken"), "ValueError: broken"),
        (SystemExit(3), "SystemExit: 3"),
    ],
    ids=["exception", "exit"],
)
def test_raising_is_an_exception_with_the_tracebacks_last_line(
    server: LocalServer, client: RawClient, fault: BaseException, text: str
) -> None:
    @server.program("faulty")
    def faulty(ctx: ProgramContext) -> None:
        raise fault

    assert list(client.events(client.launch("faulty"))) == [(EXCEPTION, f"Runtime error: {text}")]


@pytest.mark.parametrize("misuse", [lambda ctx: 5, lambda ctx: ctx.send(b""), lambda ctx: ctx.send_blob("")])
def test_wrong_types_are_the_programs_exception(server: LocalServer, client: RawClient, misuse: Any) -> None:
    server.program("misuse")(misuse)
    ((event, text),) = client.events(client.launch("misuse"))
    assert event == EXCEPTION
    assert text.startswith("Runtime error: TypeError: ")


def test_receiving_has_a_time_limit(server: LocalServer, client: RawClient) -> None:
    @server.program("impatient")
    def impatient(ctx: ProgramContext) -> str:
        for receive in (ctx.receive, ctx.receive_blob):
            with pytest.raises(TimeoutError):
                receive(timeout=0)
            with pytest.raises(TimeoutError):
                receive(0.001)
            ctx.send("still waiting")
        return ctx.receive(timeout=1e12)

    instance_id = client.launch("impatient")
    events = client.events(instance_id)
    assert [next(events), next(events)] == [(0, "still waiting")] * 2
    client.signal(instance_id, "at last")
    assert list(events) == [(COMPLETED, "at last")]


def test_terminate_wakes_a_waiting_program(server: LocalServer, client: RawClient) -> None:
    reached = []
    ended = threading.Event()

    @server.program("waiting")
    def waiting(ctx: ProgramContext) -> None:
        try:
            ctx.send("waiting")
            try:
                ctx.receive()
            except Exception:
                reached.append("except Exception")
            reached.append("after receive")
        finally:
            ended.set()

    instance_id = client.launch("waiting")
    assert next(client.events(instance_id)) == (0, "waiting")
    assert client.terminate(instance_id)[0]
    assert list(client.events(instance_id)) == [(ABORTED, "Signal termination")]
    assert ended.wait(PATIENCE)
    assert reached == []


@pytest.mark.parametrize(
    "call",
    [
        lambda ctx: ctx.send("x"),
        lambda ctx: ctx.send_blob(b"x"),
        lambda ctx: ctx.stdout("x"),
        lambda ctx: ctx.stderr("x"),
        lambda ctx: ctx.receive(timeout=0),
        lambda ctx: ctx.receive_blob(timeout=0),
    ],
    ids=["send", "send_blob", "stdout", "stderr", "receive", "receive_blob"],
)
def test_after_terminate_the_next_call_ends_the_program(server: LocalServer, client: RawClient, call: Any) -> None:
    go, ended = threading.Event(), threading.Event()
    reached = []

    @server.program("busy")
    def busy(ctx: ProgramContext) -> None:
        try:
            ctx.send("busy")
            assert go.wait(PATIENCE)
            call(ctx)
            reached.append("after the call")
        finally:
            ended.set()

    instance_id = client.launch("busy")
    assert next(client.events(instance_id)) == (0, "busy")
    assert client.terminate(instance_id)[0]
    # Told at once, while the program has not noticed yet.
    assert list(client.events(instance_id)) == [(ABORTED, "Signal termination")]
    go.set()
    assert ended.wait(PATIENCE)
    assert reached == []
    client.assert_unanswered()


def test_a_blob_of_several_chunks_arrives_whole_both_ways(server: LocalServer, client: RawClient) -> None:
    @server.program("mirror")
    def mirror(ctx: ProgramContext) -> None:
        ctx.send_blob(ctx.receive_blob())

    blob = bytes(range(256)) * 4096 + b"tail"
    instance_id = client.launch("mirror")
    assert client.upload_blob(instance_id, blob)["successful"]
    assert client.receive_blob(instance_id) == blob
    assert list(client.events(instance_id)) == [(COMPLETED, "")]


def test_an_empty_blob_is_never_delivered(server: LocalServer, client: RawClient) -> None:
    @server.program("empty")
    def empty(ctx: ProgramContext) -> str:
        ctx.send_blob(b"")
        return f"received {len(ctx.receive_blob())}"

    instance_id = client.launch("empty")
    assert client.upload_blob(instance_id, b"")["successful"]
    assert list(client.events(instance_id)) == [(COMPLETED, "received 0")]


def test_what_only_the_process_protocol_has_does_no_harm(server: LocalServer, client: RawClient) -> None:
    @server.program("portable")
    def portable(ctx: ProgramContext) -> None:
        assert ctx.input is None
        ctx.send_blob(b"abc", name="a.bin")

    instance_id = client.launch("portable", '{"a": 1}')
    assert client.receive_blob(instance_id) == b"abc"
    assert list(client.events(instance_id)) == [(COMPLETED, "")]


def test_a_program_may_send_from_several_threads(server: LocalServer, client: RawClient) -> None:
    @server.program("threads")
    def threads(ctx: ProgramContext) -> None:
        def count(letter: str) -> None:
            for number in range(200):
                ctx.send(f"{letter}{number}")

        workers = [threading.Thread(target=count, args=(letter,)) for letter in "abc"]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    *sent, end = client.events(client.launch("threads"))
    assert end == (COMPLETED, "")
    for letter in "abc":
        assert [text for _, text in sent if text[0] == letter] == [f"{letter}{n}" for n in range(200)]
