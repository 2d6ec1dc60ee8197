"""The instance protocol: which messages are answered, and which are not."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from pie_sync.testing import LocalServer
from tests.testing.raw import RawClient

COMPLETE: dict[str, dict[str, Any]] = {
    "identification": {"corr_id": 9, "username": "bob"},
    "signature": {"corr_id": 9, "signature": ""},
    "internal_authenticate": {"corr_id": 9, "token": ""},
    "ping": {"corr_id": 9},
    "query": {"corr_id": 9, "subject": "backend_stats", "record": ""},
    "upload_program": {
        "corr_id": 9,
        "program_hash": "0",
        "chunk_index": 0,
        "total_chunks": 1,
        "chunk_data": b"",
    },
    "launch_instance": {"corr_id": 9, "program_hash": "0", "arguments": [], "detached": False},
    "launch_instance_from_registry": {"corr_id": 9, "inferlet": "x", "arguments": [], "detached": False},
    "attach_instance": {"corr_id": 9, "instance_id": "x"},
    "list_instances": {"corr_id": 9},
    "terminate_instance": {"corr_id": 9, "instance_id": "x"},
    "upload_blob": {
        "corr_id": 9,
        "instance_id": "x",
        "blob_hash": "0",
        "chunk_index": 0,
        "total_chunks": 1,
        "chunk_data": b"",
    },
}


FIELDS = [(kind, field) for kind, fields in COMPLETE.items() for field in fields]


@pytest.mark.parametrize("kind", COMPLETE)
def test_a_complete_message_is_answered_whatever_else_is_in_it(client: RawClient, kind: str) -> None:
    client.send(kind, **COMPLETE[kind], further={"field": [1]})
    assert client.receive()["corr_id"] == 9


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_a_message_without_a_field_is_not_answered(client: RawClient, kind: str, field: str) -> None:
    client.send(kind, **{name: value for name, value in COMPLETE[kind].items() if name != field})
    client.assert_unanswered()


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_a_field_of_another_type_is_not_answered(client: RawClient, kind: str, field: str) -> None:
    for wrong in (None, {}, 1.5, [1], "text" if field == "chunk_data" else b"bytes"):
        client.send(kind, **{**COMPLETE[kind], field: wrong})
    client.assert_unanswered()


@pytest.mark.parametrize("corr_id", [-1, 2**32, True, "1"])
def test_a_correlation_id_has_32_bits(client: RawClient, corr_id: object) -> None:
    client.send("ping", corr_id=corr_id)
    client.assert_unanswered()


@pytest.mark.parametrize("corr_id", [0, 2**32 - 1])
def test_every_correlation_id_is_echoed(client: RawClient, corr_id: int) -> None:
    assert client.request("ping", corr_id=corr_id)["result"] == "Pong"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 2000 + b"\xc0",
        msgpack.packb(["type", "ping"]),
        msgpack.packb({"corr_id": 9}),
        msgpack.packb({"type": "unknown", "corr_id": 9}),
        msgpack.packb({"type": ["ping"], "corr_id": 9}),
        msgpack.packb({"type": b"ping", "corr_id": 9}),
        msgpack.packb({"type": "ping", "corr_id": 9}) + b"\0",
        msgpack.packb({"type": "ping", "corr_id": 9, 5: 6}),
        b"\x82\xa4type\xa4ping\xa7corr_id\xa1\xff",
    ],
    ids=[
        "nothing",
        "never used",
        "cut",
        "huge",
        "deep",
        "list",
        "no type",
        "unknown type",
        "type is a list",
        "type is bytes",
        "trailing byte",
        "number as a key",
        "no UTF-8",
    ],
)
def test_what_is_no_message_is_not_answered(client: RawClient, data: bytes) -> None:
    client.send_bytes(data)
    client.assert_unanswered()


def test_text_frames_are_not_answered(client: RawClient) -> None:
    client.socket.send('{"type": "ping", "corr_id": 9}')
    client.assert_unanswered()


def test_an_unknown_query_subject_is_not_answered(client: RawClient) -> None:
    client.send("query", corr_id=9, subject="weather", record="")
    client.assert_unanswered()


def test_queries(server: LocalServer, client: RawClient) -> None:
    for subject in ("model_status", "backend_stats"):
        answer = client.request("query", subject=subject, record="")
        assert (answer["type"], answer["successful"]) == ("response", True)
        if subject == "model_status":
            assert isinstance(json.loads(answer["result"]), dict)
        else:
            assert answer["result"]
