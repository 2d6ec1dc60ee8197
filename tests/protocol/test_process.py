"""The messages of the process protocol, without a server."""

import json

import msgpack
import pytest

from pie_sync import Event, InstanceInfo
from pie_sync._protocol import ProcessProtocol, ProtocolDetector
from pie_sync._protocol.messages import Abort, Answer, BadMessage, BlobChunk, Notice, Refusal
from pie_sync._protocol.program_names import ProgramName, content_version

PROTOCOL = ProcessProtocol()
HASH = "ab" * 32
NAME = ProgramName("pie-sync", content_version(HASH))

REQUESTS = [
    (PROTOCOL.identify(1, "alice"), {"type": "auth_identify", "corr_id": 1, "username": "alice"}),
    (PROTOCOL.prove(2, "c2ln"), {"type": "auth_prove", "corr_id": 2, "signature": "c2ln"}),
    (PROTOCOL.authenticate_by_token(3, "t"), {"type": "auth_by_token", "corr_id": 3, "token": "t"}),
    (PROTOCOL.ping(4), {"type": "ping", "corr_id": 4}),
    (PROTOCOL.query(5, "s", "r"), {"type": "query", "corr_id": 5, "subject": "s", "record": "r"}),
    (
        PROTOCOL.named_program_exists(6, NAME),
        {"type": "check_program", "corr_id": 6, "name": NAME.name, "version": NAME.version},
    ),
    (
        PROTOCOL.launch(8, HASH, NAME, ["--n", "1"], True, tag=" \t"),
        {
            "type": "launch_process",
            "corr_id": 8,
            "inferlet": str(NAME),
            "input": '{"n": 1} \t',
            "capture_outputs": False,
        },
    ),
    (
        PROTOCOL.launch_from_registry(9, "echo", {"n": [1]}, False),
        {
            "type": "launch_process",
            "corr_id": 9,
            "inferlet": "echo",
            "input": '{"n": [1]}',
            "capture_outputs": True,
        },
    ),
    (PROTOCOL.attach(10, "id"), {"type": "attach_process", "corr_id": 10, "process_id": "id"}),
    (PROTOCOL.list(11), {"type": "list_processes", "corr_id": 11}),
    (PROTOCOL.terminate(12, "id"), {"type": "terminate_process", "corr_id": 12, "process_id": "id"}),
    (PROTOCOL.signal("id", "hi"), {"type": "signal_process", "process_id": "id", "message": "hi"}),
    (
        PROTOCOL.program_chunk(13, HASH, 0, 2, 3) + b"abc",
        {
            "type": "add_program",
            "corr_id": 13,
            "program_hash": HASH,
            "manifest": f'[package]\nname = "{NAME.name}"\nversion = "{NAME.version}"\n',
            "force_overwrite": False,
            "chunk_index": 0,
            "total_chunks": 2,
            "chunk_data": b"abc",
        },
    ),
    (
        PROTOCOL.blob_chunk(14, "id", HASH, 1, 2, 0),
        {
            "type": "transfer_file",
            "process_id": "id",
            "file_hash": HASH,
            "chunk_index": 1,
            "total_chunks": 2,
            "chunk_data": b"",
        },
    ),
]


@pytest.mark.parametrize(("encoded", "message"), REQUESTS, ids=[message["type"] for _, message in REQUESTS])
def test_requests(encoded, message):
    assert msgpack.unpackb(encoded, raw=False) == message


def event(name, value):
    return {"type": "process_event", "process_id": "id", "event": name, "value": value}


FILE = {
    "type": "file",
    "process_id": "id",
    "file_hash": HASH,
    "chunk_index": 0,
    "total_chunks": 1,
    "chunk_data": b"x",
}

SAID = [
    ({"type": "response", "corr_id": 7, "ok": True, "result": "Pong"}, Answer(7, "response", True, "Pong")),
    (event("stdout", "o"), ("id", Event.Stdout, "o")),
    (event("stderr", "e"), ("id", Event.Stderr, "e")),
    (event("message", "m"), ("id", Event.Message, "m")),
    (event("return", "[1]"), ("id", Event.Completed, "[1]")),
    (event("error", "Traceback"), ("id", Event.Exception, "Traceback")),
    (event("error", "Signal"), ("id", Event.Aborted, "Signal")),
    (event("message", "Signal"), ("id", Event.Message, "Signal")),
    (FILE, BlobChunk("id", HASH, 0, 1, b"x")),
    ({**FILE, "name": "a.png"}, BlobChunk("id", HASH, 0, 1, b"x", "a.png")),
    ({**FILE, "name": None}, BlobChunk("id", HASH, 0, 1, b"x", None)),
]


@pytest.mark.parametrize(("message", "decoded"), SAID)
@pytest.mark.parametrize("protocol", [PROTOCOL, ProtocolDetector()])
def test_what_the_server_says(protocol, message, decoded):
    assert protocol.decode(msgpack.packb(message)) == decoded


@pytest.mark.parametrize(
    "message",
    [
        {"type": "response", "corr_id": 7, "successful": True, "result": "x"},
        {"type": "response", "corr_id": 7, "ok": 1, "result": "x"},
        event("novelty", "x"),
        event("stdout", 5),
        {**FILE, "name": 5},
        {**FILE, "chunk_data": "text"},
        {**FILE, "total_chunks": "1"},
        {"type": "instance_event", "instance_id": "id", "event": 0, "message": "m"},
    ],
)
def test_senseless_messages(message):
    with pytest.raises(BadMessage):
        PROTOCOL.decode(msgpack.packb(message))


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ('{"type":"turn_done"}', None),
        ('{"type":"error","message":"bad client frame: …"}', Refusal("bad client frame: …")),
        ('{"type":"error","message":"stream aborted"}', Abort("stream aborted")),
        ('{"type":"error"}', Notice('(as text) {"type":"error"}')),
        ("hello", Notice("(as text) hello")),
        ("[]", Notice("(as text) []")),
        ("[" * 100_000, Notice("(as text) " + "[" * 100_000)),
    ],
)
def test_text(text, decoded):
    assert PROTOCOL.decode_text(text) == decoded


def test_the_list_of_processes():
    entries = [
        {"id": "a", "username": "u", "program": "p@1.0.0", "input": '{"x": 1}', "elapsed_secs": 3},
        {"id": "b", "program": "p@1.0.0", "arguments": "x y"},
        {"id": "c", "arguments": ["x", "y"], "elapsed_secs": 0.5},
        {"id": "d"},
    ]
    answer = Answer(7, "response", True, json.dumps(entries))
    assert PROTOCOL.instances(answer) == (
        InstanceInfo("a", ('{"x": 1}',), username="u", elapsed_secs=3, program="p@1.0.0"),
        InstanceInfo("b", ("x y",), program="p@1.0.0"),
        InstanceInfo("c", ("x y",), elapsed_secs=0.5),
        InstanceInfo("d"),
    )


@pytest.mark.parametrize(
    "text", ["", "{}", '""', "{}x", '{"a": 1}', "[1]", '[{"id": 5}]', "[{}]", '[{"id":"a","program":[]}]']
)
def test_a_senseless_list(text):
    with pytest.raises(BadMessage, match="list of processes"):
        PROTOCOL.instances(Answer(7, "response", True, text))
