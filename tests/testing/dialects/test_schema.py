"""Frames that are no message that the server knows, and what is said about them."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from tests.testing.raw_process import COMPLETE, UNANSWERED, ProcessClient


@pytest.fixture(params=["process", "process-0.5"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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
