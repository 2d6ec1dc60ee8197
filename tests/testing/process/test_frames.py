"""What the server makes of frames that are no messages, and the text frames of 0.5."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from pie_sync.testing import LocalServer

from .conftest import Connect
from .raw import TURN_DONE, ProcessClient, manifest_of

CHUNK: dict[str, Any] = {"chunk_index": 0, "total_chunks": 1, "chunk_data": b""}
COMPLETE: dict[str, dict[str, Any]] = {
    "auth_identify": {"corr_id": 9, "username": "bob"},
    "auth_prove": {"corr_id": 9, "signature": ""},
    "ping": {"corr_id": 9},
    "query": {"corr_id": 9, "subject": "model_status", "record": ""},
    "check_program": {"corr_id": 9, "name": "x", "version": "1.0.0"},
    "add_program": {
        "corr_id": 9,
        "program_hash": "0",
        "manifest": manifest_of("x"),
        "force_overwrite": False,
        **CHUNK,
    },
    "launch_process": {"corr_id": 9, "inferlet": "x", "input": "{}", "capture_outputs": True},
    "attach_process": {"corr_id": 9, "process_id": "x"},
    "list_processes": {"corr_id": 9},
    "terminate_process": {"corr_id": 9, "process_id": "x"},
}
UNANSWERED: dict[str, dict[str, Any]] = {
    "signal_process": {"process_id": "x", "message": ""},
    "transfer_file": {"process_id": "x", "file_hash": "0", **CHUNK},
}
FIELDS = [(kind, fields, field) for kind, fields in {**COMPLETE, **UNANSWERED}.items() for field in fields]

NO_MESSAGES = {
    "nothing": b"",
    "never used": b"\xc1",
    "cut": b"\x81",
    "list": msgpack.packb(["corr_id", 9]),
    "no type": msgpack.packb({"corr_id": 9}),
    "type is a list": msgpack.packb({"type": ["ping"], "corr_id": 9}),
    "other generation": msgpack.packb({"type": "identification", "corr_id": 9, "username": "bob"}),
    "no UTF-8": b"\x82\xa4type\xa4ping\xa7corr_id\xa1\xff",
    "number is too large": msgpack.packb({"type": "ping", "corr_id": 2**32}),
    "number is negative": msgpack.packb({"type": "ping", "corr_id": -1}),
    "number is a truth": msgpack.packb({"type": "ping", "corr_id": True}),
}


def assert_not_understood(client: ProcessClient, reason: str = "") -> None:
    """What was sent before this call is reported by 0.5, and passed over in silence by the others."""
    if client.gateway:
        message = client.receive()
        assert set(message) == {"text"}
        assert set(message["text"]) == {"type", "message"}
        assert message["text"]["type"] == "error"
        assert message["text"]["message"].startswith("bad client frame: " + reason)
    client.assert_unanswered()


@pytest.mark.parametrize("kind", COMPLETE)
def test_a_complete_message_is_answered_whatever_else_is_in_it(client: ProcessClient, kind: str) -> None:
    client.send(kind, **COMPLETE[kind], further={"field": [1]})
    assert client.receive()["corr_id"] == 9


@pytest.mark.parametrize("kind", UNANSWERED)
def test_some_messages_are_never_answered(client: ProcessClient, kind: str) -> None:
    client.send(kind, **UNANSWERED[kind])
    client.assert_unanswered()


@pytest.mark.parametrize(
    ("kind", "fields", "field"), FIELDS, ids=lambda value: value if type(value) is str else ""
)
def test_a_message_without_a_field(client: ProcessClient, kind: str, fields: dict[str, Any], field: str) -> None:
    client.send(kind, **{name: value for name, value in fields.items() if name != field})
    assert_not_understood(client, f"missing field `{field}`")


@pytest.mark.parametrize(
    ("kind", "fields", "field"), FIELDS, ids=lambda value: value if type(value) is str else ""
)
def test_a_field_of_another_type(client: ProcessClient, kind: str, fields: dict[str, Any], field: str) -> None:
    for wrong in (None, {}, 1.5, [1], "text" if field == "chunk_data" else b"bytes"):
        client.send(kind, **{**fields, field: wrong})
        assert_not_understood(client, "invalid type: ")


@pytest.mark.parametrize("data", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_what_is_no_message(client: ProcessClient, data: bytes) -> None:
    client.send_bytes(data)
    assert_not_understood(client)


def test_an_unknown_type_is_told_with_all_known_ones(client: ProcessClient) -> None:
    client.send("nonsense", corr_id=9)
    assert_not_understood(client, "unknown variant `nonsense`, expected one of `auth_identify`, `auth_prove`, ")


def test_a_text_frame(client: ProcessClient) -> None:
    client.socket.send("hello")
    assert_not_understood(client)
    client.socket.send(json.dumps({"type": "ping", "corr_id": 9}))
    if client.gateway:
        assert client.receive() == {"type": "response", "corr_id": 9, "ok": True, "result": "Pong"}
    client.assert_unanswered()


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


# The end of each turn, as 0.5 tells it


@pytest.fixture
def turns(connect: Connect) -> ProcessClient:
    """A client of 0.5 that receives the end of each turn."""
    return connect(turns=True)


only_0_5 = pytest.mark.parametrize("flavour", ["process-0.5"])


def next_is_pong(client: ProcessClient) -> None:
    """Nothing else arrives before the answer to this ping, and after it the end of its turn."""
    client.assert_unanswered()
    assert client.receive() == TURN_DONE


@only_0_5
@pytest.mark.parametrize("kind", [kind for kind in COMPLETE if not kind.startswith(("launch", "attach"))])
def test_a_turn_ends_after_the_answer(turns: ProcessClient, kind: str) -> None:
    turns.send(kind, **COMPLETE[kind])
    assert turns.receive()["corr_id"] == 9
    assert turns.receive() == TURN_DONE
    next_is_pong(turns)


@only_0_5
@pytest.mark.parametrize("kind", UNANSWERED)
def test_a_turn_without_an_answer_ends_too(turns: ProcessClient, kind: str) -> None:
    turns.send(kind, **UNANSWERED[kind])
    assert turns.receive() == TURN_DONE
    next_is_pong(turns)


@only_0_5
@pytest.mark.parametrize("kind", ["launch_process", "attach_process"])
def test_a_refused_launch_or_attach_has_no_end_of_a_turn(turns: ProcessClient, kind: str) -> None:
    turns.send(kind, **COMPLETE[kind])
    assert not turns.receive()["ok"]
    next_is_pong(turns)


@only_0_5
def test_the_turn_of_a_launch_ends_with_the_process(
    server: LocalServer, turns: ProcessClient, repeat: str
) -> None:
    process_id = turns.launch(repeat)
    next_is_pong(turns)
    turns.signal(process_id, "done")
    # The signal has a turn of its own; which of the two ends comes first is anybody's guess.
    received = [turns.receive() for _ in range(3)]
    assert received.count(TURN_DONE) == 2
    assert received[-1] == TURN_DONE
    (end,) = (message for message in received if message != TURN_DONE)
    assert (end["event"], end["value"]) == ("return", "bye")
    next_is_pong(turns)


@only_0_5
def test_the_turn_of_an_attach_ends_with_the_process(turns: ProcessClient, repeat: str, connect: Connect) -> None:
    other = connect()
    process_id = other.launch_detached(repeat)
    assert turns.attach(process_id)[0]
    next_is_pong(turns)
    assert other.terminate(process_id)[0]
    assert turns.event() == ("error", "Signal")
    assert turns.receive() == TURN_DONE
    next_is_pong(turns)


@only_0_5
def test_a_detached_launch_has_no_end_of_a_turn(server: LocalServer, turns: ProcessClient) -> None:
    server.program("short")(lambda ctx: None)
    assert turns.launch("short", capture=False) == ""
    next_is_pong(turns)


@only_0_5
def test_what_is_not_understood_has_no_end_of_a_turn(turns: ProcessClient) -> None:
    turns.send("nonsense")
    assert turns.receive()["text"]["type"] == "error"
    next_is_pong(turns)
