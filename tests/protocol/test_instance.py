"""The messages of the instance protocol, checked against protocol.md's tables without a server."""

import msgpack
import pytest

from pie_sync import Event, InstanceInfo
from pie_sync._protocol.instance import InstanceProtocol
from pie_sync._protocol.messages import Answer, BadMessage, BlobChunk, InstanceList, Notice

PROTOCOL = InstanceProtocol()
HASH = "ab" * 32

REQUESTS = [
    (PROTOCOL.identify(1, "alice"), {"type": "identification", "corr_id": 1, "username": "alice"}),
    (PROTOCOL.prove(2, "c2ln"), {"type": "signature", "corr_id": 2, "signature": "c2ln"}),
    (PROTOCOL.authenticate_by_token(3, "t"), {"type": "internal_authenticate", "corr_id": 3, "token": "t"}),
    (PROTOCOL.ping(4), {"type": "ping", "corr_id": 4}),
    (PROTOCOL.query(5, "s", "r"), {"type": "query", "corr_id": 5, "subject": "s", "record": "r"}),
    (
        PROTOCOL.program_exists(6, HASH),
        {"type": "query", "corr_id": 6, "subject": "program_exists", "record": HASH},
    ),
    (
        PROTOCOL.named_program_exists(7, PROTOCOL.content_name(HASH)),
        {"type": "query", "corr_id": 7, "subject": "program_exists", "record": f"pie-sync/{HASH}@1.0.0"},
    ),
    (
        PROTOCOL.launch(8, HASH, PROTOCOL.content_name(HASH), ["-x"], True),
        {
            "type": "launch_instance",
            "corr_id": 8,
            "program_hash": HASH,
            "inferlet": f"pie-sync/{HASH}@1.0.0",
            "arguments": ["-x"],
            "detached": True,
        },
    ),
    (
        PROTOCOL.launch_from_registry(9, "std/echo@1", [], False),
        {
            "type": "launch_instance_from_registry",
            "corr_id": 9,
            "inferlet": "std/echo@1",
            "arguments": [],
            "detached": False,
        },
    ),
    (PROTOCOL.attach(10, "id"), {"type": "attach_instance", "corr_id": 10, "instance_id": "id"}),
    (PROTOCOL.list(11), {"type": "list_instances", "corr_id": 11}),
    (PROTOCOL.terminate(12, "id"), {"type": "terminate_instance", "corr_id": 12, "instance_id": "id"}),
    (PROTOCOL.signal("id", "hi"), {"type": "signal_instance", "instance_id": "id", "message": "hi"}),
    (
        PROTOCOL.program_chunk(13, HASH, 0, 2, 3) + b"abc",
        {
            "type": "upload_program",
            "corr_id": 13,
            "program_hash": HASH,
            "manifest": f'[package]\nname = "pie-sync/{HASH}"\nversion = "1.0.0"\n',
            "chunk_index": 0,
            "total_chunks": 2,
            "chunk_data": b"abc",
        },
    ),
    (
        PROTOCOL.blob_chunk(14, "id", HASH, 1, 2, 0),
        {
            "type": "upload_blob",
            "corr_id": 14,
            "instance_id": "id",
            "blob_hash": HASH,
            "chunk_index": 1,
            "total_chunks": 2,
            "chunk_data": b"",
        },
    ),
]


@pytest.mark.parametrize(("encoded", "message"), REQUESTS, ids=[message["type"] for _, message in REQUESTS])
def test_requests(encoded, message):
    assert msgpack.unpackb(encoded, raw=False) == message


ANSWERS = [
    (
        {"type": "response", "corr_id": 7, "successful": True, "result": "Pong"},
        Answer(7, "response", True, "Pong"),
    ),
    ({"type": "challenge", "corr_id": 7, "challenge": "eA=="}, Answer(7, "challenge", True, "eA==")),
    (
        {"type": "instance_launch_result", "corr_id": 7, "successful": True, "message": "id"},
        Answer(7, "instance_launch_result", True, "id"),
    ),
    (
        {"type": "instance_attach_result", "corr_id": 7, "successful": False, "message": "Instance not found"},
        Answer(7, "instance_attach_result", False, "Instance not found"),
    ),
    (
        {
            "type": "live_instances",
            "corr_id": 7,
            "instances": [
                {"id": "a", "arguments": ["x"], "status": "Attached", "cmd_name": "old"},
                {
                    "id": "b",
                    "arguments": [],
                    "status": "Finished",
                    "username": "u",
                    "elapsed_secs": 3,
                    "kv_pages_used": 4,
                },
            ],
        },
        InstanceList(
            7,
            (InstanceInfo("a", ("x",), "Attached"), InstanceInfo("b", (), "Finished", "u", 3, 4)),
        ),
    ),
    (
        {
            "type": "download_blob",
            "corr_id": 0,
            "instance_id": "id",
            "blob_hash": HASH,
            "chunk_index": 0,
            "total_chunks": 1,
            "chunk_data": b"x",
        },
        BlobChunk("id", HASH, 0, 1, b"x"),
    ),
    ({"type": "server_event", "message": "hello"}, Notice("hello")),
    (
        {"type": "streaming_output", "instance_id": "id", "output": {"Stdout": "o"}},
        ("id", Event.Stdout, "o"),
    ),
    (
        {"type": "streaming_output", "instance_id": "id", "output": {"Stderr": "e"}},
        ("id", Event.Stderr, "e"),
    ),
    *(
        (
            {"type": "instance_event", "instance_id": "id", "event": code, "message": "m"},
            ("id", Event(code), "m"),
        )
        for code in range(6)
    ),
]


@pytest.mark.parametrize(("message", "decoded"), ANSWERS)
def test_what_the_server_says(message, decoded):
    assert PROTOCOL.decode(msgpack.packb(message)) == decoded
    assert PROTOCOL.decode(memoryview(msgpack.packb(message))) == decoded


def without(message, field):
    return {name: value for name, value in message.items() if name != field}


REQUIRED = [
    (message, field)
    for message, _ in ANSWERS
    for field in message
    # The corr_id of a download means nothing.
    if not (message["type"] == "download_blob" and field == "corr_id")
]


@pytest.mark.parametrize(("message", "field"), REQUIRED)
def test_missing_and_wrong_fields(message, field):
    wrong = {"type": 5, "instance_id": 5}.get(field, [3.5])
    for bad in (without(message, field), {**message, field: wrong}):
        if field == "instance_id" and field in bad and message["type"] != "download_blob":
            continue  # the session finds out, in whose table it looks: see test_session
        with pytest.raises(BadMessage):
            PROTOCOL.decode(msgpack.packb(bad))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not MessagePack"),
        (b"\xc1", "not MessagePack"),
        (b"\xdd\xff\xff\xff\xff", "not MessagePack"),  # claims an array of 4 G entries
        (b"\x91" * 5000 + b"\xc0", "not MessagePack"),  # nested too deeply
        (msgpack.packb({"type": "response"}) + b"x", "not MessagePack"),  # something behind it
        (b"\x81\xa1\xff\xc0", "not MessagePack"),  # a key that is not UTF-8
        (msgpack.packb([1]), "a list, not a map"),
        (msgpack.packb({"a": 1}), "without a type"),
        (msgpack.packb({"type": ["response"]}), "without a type"),
        (msgpack.packb({"type": "x" * 1000}), "unknown type 'xxxxxxxxxx"),
        (msgpack.packb({"type": "instance_event", "instance_id": "id", "event": 99, "message": "m"}), "event"),
    ],
)
def test_senseless_messages(data, reason):
    with pytest.raises(BadMessage, match=reason) as caught:
        PROTOCOL.decode(data)
    assert len(str(caught.value)) < 400


def test_a_bad_message_says_whom_it_concerns_but_not_what_it_contained():
    message = {"type": "response", "corr_id": 9, "successful": "yes", "result": "secret"}
    with pytest.raises(BadMessage) as caught:
        PROTOCOL.decode(msgpack.packb(message))
    assert caught.value.corr_id == 9
    assert caught.value.instance_id is None
    assert "secret" not in str(caught.value)
    assert "'response'" in str(caught.value)
