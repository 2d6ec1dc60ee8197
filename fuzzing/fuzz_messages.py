"""Messages for the decoders of each generation of the protocol.

- A binary message is decoded into one of the types of the module ``messages``, with fields of the right types, or
  is a ``BadMessage``.
- The text of a ``BadMessage`` is short, whatever the message contains.
- Text messages are always decoded.
- Before the generation is detected, a message is decoded as by the decoder of one of the two generations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuzzing.grammar import CHUNKS, JSON, json_text, message, value
from fuzzing.harness import Source
from pie_sync import Event, InstanceInfo
from pie_sync._protocol import InstanceProtocol, ProcessProtocol, ProtocolDetector
from pie_sync._protocol.messages import (
    Abort,
    Answer,
    BadMessage,
    BlobChunk,
    InstanceList,
    Notice,
    Refusal,
    pack,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTANCE, PROCESS, UNDETECTED = InstanceProtocol(), ProcessProtocol(), ProtocolDetector()


def check(data: bytes) -> None:
    source = Source(data)
    kind = source.number() % 8
    if kind == 0:
        check_text(source.rest())
    elif kind == 1:
        check_text(json_text(source))
    elif kind == 2:
        check_list(source.rest())
    elif kind == 3:
        check_payload(source.rest())
    elif kind == 4:
        check_payload(value(source))
    elif kind == 5:  # large messages are unpacked in another way
        check_payload(b"\x92" + value(source) + b"\xc5\xff\xff" + bytes(65535))
        check_payload(b"\xdd" + source.take(4) + source.take(1) * 70_000)
    else:
        check_payload(message(source))


def check_payload(payload: bytes) -> None:
    by_generation = [decoded(protocol, payload) for protocol in (INSTANCE, PROCESS)]
    assert decoded(UNDETECTED, payload) in by_generation


def decoded(protocol: Any, payload: bytes) -> Any:
    """Decode one message, and return a text that can be compared."""
    try:
        # As a view, which is what the frame reader returns.
        result = protocol.decode(memoryview(payload))
    except BadMessage as bad:
        assert len(str(bad)) < 1000
        assert bad.corr_id is None or type(bad.corr_id) is int
        assert bad.instance_id is None or type(bad.instance_id) is str
        return f"{bad.corr_id} {bad.instance_id}"
    check_types(result)
    # NaN is not equal to itself, so the text is compared.
    return repr(result)


def check_types(result: Any) -> None:
    if type(result) is tuple:
        _instance_id, event, text = result  # the session checks the id
        assert type(event) is Event
        assert type(text) is str
    elif type(result) is Answer:
        assert type(result.corr_id) is int
        assert type(result.ok) is bool
        assert type(result.text) is str
    elif type(result) is InstanceList:
        assert type(result.corr_id) is int
        check_instances(result.instances)
    elif type(result) is BlobChunk:
        assert type(result.instance_id) is str
        assert len(result.blob_hash) == 64
        assert type(result.index) is type(result.total) is int
        assert type(result.data) is bytes
        assert result.name is None or type(result.name) is str
    else:
        assert type(result) is Notice


def check_instances(instances: tuple[InstanceInfo, ...]) -> None:
    for info in instances:
        assert type(info.id) is str
        assert all(type(argument) is str for argument in info.arguments)
        for text in (info.status, info.username, info.program):
            assert text is None or type(text) is str
        assert info.elapsed_secs is None or isinstance(info.elapsed_secs, (int, float))
        assert info.kv_pages_used is None or isinstance(info.kv_pages_used, int)


def check_text(data: bytes) -> None:
    text = data.decode(errors="replace")  # the frame reader refuses text that isn't UTF-8
    assert type(INSTANCE.decode_text(text)) is Notice
    result = PROCESS.decode_text(text)
    assert result is None or type(result) in (Notice, Refusal, Abort)
    assert UNDETECTED.decode_text(text) == result


def check_list(data: bytes) -> None:
    """Check the list of processes, which the process protocol sends as JSON in an answer."""
    try:
        check_instances(PROCESS.instances(Answer(1, "response", True, data.decode(errors="replace"))))
    except BadMessage as bad:
        assert len(str(bad)) < 1000


def seeds() -> Iterator[bytes]:
    for text in JSON:
        yield b"\0" + text
    for text in (
        b"[]",
        b'[{"id": "a", "input": "{}", "username": "u", "program": "p@1.0.0", "elapsed_secs": 1.5}]',
        b'[{"id": "a", "arguments": ["x", 1]}, {"id": "b", "arguments": "--x 1"}]',
    ):
        yield b"\x02" + text
    chunk = {"chunk_index": 0, "total_chunks": 1, "chunk_data": CHUNKS[3].data}
    for said in (
        {"type": "response", "corr_id": 1, "successful": True, "result": "Pong"},
        {"type": "response", "corr_id": 1, "ok": True, "result": "Pong"},
        {"type": "challenge", "corr_id": 1, "challenge": "AAAA"},
        {"type": "instance_launch_result", "corr_id": 1, "successful": True, "message": "first"},
        {
            "type": "live_instances",
            "corr_id": 1,
            "instances": [{"id": "a", "arguments": ["x"], "status": "Attached"}],
        },
        {"type": "instance_event", "instance_id": "first", "event": 0, "message": "text"},
        {"type": "streaming_output", "instance_id": "first", "output": {"Stdout": "text"}},
        {"type": "download_blob", "corr_id": 0, "instance_id": "first", "blob_hash": CHUNKS[3].hash, **chunk},
        {"type": "server_event", "message": "text"},
        {"type": "process_event", "process_id": "first", "event": "stdout", "value": "text"},
        {"type": "file", "process_id": "first", "file_hash": CHUNKS[3].hash, **chunk, "name": "x.txt"},
    ):
        yield b"\x03" + pack(said)
    for kind in range(12):
        yield bytes((6, kind)) + bytes(20)
