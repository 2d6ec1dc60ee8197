"""Makes what a server might send, as the fuzzer decides: MessagePack values, messages of both generations, frames.

This module makes bytes rather than objects, because bytes can be wrong in ways in which no encoder's output is:
text that is not UTF-8, a key twice, a claim of elements that don't come.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, NamedTuple

import msgpack
from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuzzing.harness import Source

# --- MessagePack ------------------------------------------------------------------------------------------

NUMBERS = tuple(
    map(
        msgpack.packb,
        (-1, 4, 6, 9, 2**31, -(2**31), 2**32 - 1, 2**32, -(2**63), 2**63, 2**64 - 1, 1.0, float("nan")),
    )
)

#: Headers that claim more than follows: arrays, maps, text, bytes and extensions of 4 Gi, and of 60 000.
CLAIMS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x05",
    b"\xdc\xea\x60",
    b"\xde\xea\x60",
)

MAX_DEPTH = 4


def value(source: Source, depth: int = 0) -> bytes:
    """Return any MessagePack value, perhaps a malformed one."""
    kind = source.number() % 16
    if kind < 3:
        return (b"\xc0", b"\xc2", b"\xc3")[kind]
    if kind < 5:
        return bytes((source.number() % 128,))
    if kind == 5:
        return source.pick(NUMBERS)
    if kind == 6:
        return source.pick((b"\xcb", b"\xcf", b"\xd3")) + source.take(8).ljust(8, b"\0")
    if kind < 9:
        return text(source.piece())
    if kind == 9:
        return binary(source.piece())
    if kind == 10:
        data = source.piece()
        return b"\xc7" + bytes((len(data), source.number())) + data
    if kind == 11:  # a timestamp
        return source.pick((b"\xd6\xff", b"\xd7\xff", b"\xc7\x0c\xff")) + source.take(12)
    if kind == 12:
        return source.pick((b"\x91", b"\x81\xa1a", b"\x81")) * (1 << source.number() % 12) + b"\xc0"
    if kind == 13:
        return source.pick(CLAIMS)
    count = 0 if depth == MAX_DEPTH else source.number() % 5
    if kind == 14:
        return bytes((0x90 | count,)) + b"".join(value(source, depth + 1) for _ in range(count))
    pairs = (
        (text(source.pick(NAMES)) if source.number() % 8 else value(source, depth + 1)) + value(source, depth + 1)
        for _ in range(count)
    )
    return bytes((0x80 | count,)) + b"".join(pairs)


def text(data: bytes) -> bytes:
    """Return a MessagePack text of up to 65 535 bytes, whether they are UTF-8 or not."""
    return (b"\xd9" + bytes((len(data),)) if len(data) < 256 else b"\xda" + struct.pack("!H", len(data))) + data


def binary(data: bytes) -> bytes:
    return b"\xc5" + struct.pack("!H", len(data)) + data


# --- messages ---------------------------------------------------------------------------------------------

#: Ids of instances that may be launched. The answer to a successful launch contains one of them.
IDS = (b"first", b"second", b"third", b"")

#: The fields of every message that a server sends, in both generations.
FIELDS: dict[bytes, tuple[bytes, ...]] = {
    b"response": (b"corr_id", b"successful", b"result"),
    b"challenge": (b"corr_id", b"challenge"),
    b"instance_launch_result": (b"corr_id", b"successful", b"message"),
    b"instance_attach_result": (b"corr_id", b"successful", b"message"),
    b"live_instances": (b"corr_id", b"instances"),
    b"instance_event": (b"instance_id", b"event", b"message"),
    b"streaming_output": (b"instance_id", b"output"),
    b"download_blob": (b"corr_id", b"instance_id", b"blob_hash", b"chunk_index", b"total_chunks", b"chunk_data"),
    b"server_event": (b"message",),
    b"response ": (b"corr_id", b"ok", b"result"),  # of the process protocol; the space is stripped
    b"process_event": (b"process_id", b"event", b"value"),
    b"file": (b"process_id", b"file_hash", b"chunk_index", b"total_chunks", b"chunk_data", b"name"),
}
TYPES = tuple(FIELDS)
NAMES = (
    b"type",
    b"id",
    b"arguments",
    b"input",
    b"status",
    b"username",
    b"elapsed_secs",
    b"kv_pages_used",
    b"program",
    b"Stdout",
    b"Stderr",
)
EVENTS = (
    *(bytes((code,)) for code in range(8)),
    *map(text, (b"stdout", b"stderr", b"message", b"return", b"error")),
)
TEXTS = (
    *IDS,
    b"Signal",
    b"true",
    b"[]",
    b'[{"id": "first", "input": "x"}]',
    b'[{"id": "first", "arguments": ["x", 1]}]',
)


class Chunk(NamedTuple):
    """One valid chunk of a blob."""

    hash: str
    index: int
    total: int
    data: bytes


def chunks(blob: bytes, count: int) -> list[Chunk]:
    """Cut a blob into chunks."""
    size = -(-len(blob) // count)
    name = blake3(blob).hexdigest()
    return [Chunk(name, index, count, blob[index * size : (index + 1) * size]) for index in range(count)]


BLOBS = (b"", b"x", b"another one", bytes(range(256)) * 8)
CHUNKS = tuple(chunk for blob in BLOBS for count in (1, 2, 3) for chunk in chunks(blob, count))


def message(source: Source) -> bytes:
    """Return a message of a known type, some of whose fields may be missing, wrong or present twice."""
    kind = source.pick(TYPES)
    chunk = source.pick(CHUNKS) if b"chunk_data" in FIELDS[kind] else CHUNKS[0]
    pairs = [text(b"type") + text(kind.strip())]
    for name in FIELDS[kind]:
        how = source.number() % 16
        if how == 15:
            continue
        pairs.append(text(name) + (value(source) if how == 14 else right(name, source, chunk)))
        if how == 13:
            pairs.append(text(name) + value(source))
    return b"\xde" + struct.pack("!H", len(pairs)) + b"".join(pairs)


def right(name: bytes, source: Source, chunk: Chunk) -> bytes:
    """Return a value that the field may contain."""
    if name == b"corr_id":
        return bytes((source.number() % 16,))
    if name in (b"instance_id", b"process_id"):
        return text(source.pick(IDS))
    if name in (b"successful", b"ok"):
        return source.pick((b"\xc3", b"\xc2"))
    if name == b"event":
        return source.pick(EVENTS)
    if name == b"output":
        return b"\x81" + text(source.pick((b"Stdout", b"Stderr", b"Stdin"))) + text(source.pick(TEXTS))
    if name == b"instances":
        count = source.number() % 3
        return bytes((0x90 | count,)) + b"".join(
            b"\x83"
            + b"".join(text(source.pick(NAMES)) + value(source) for _ in range(2))
            + text(b"id")
            + text(b"first")
            for _ in range(count)
        )
    if name in (b"blob_hash", b"file_hash"):
        return text(chunk.hash.encode())
    if name == b"chunk_index":
        return msgpack.packb(chunk.index)
    if name == b"total_chunks":
        return msgpack.packb(chunk.total)
    if name == b"chunk_data":
        return binary(chunk.data)
    return text(source.pick(TEXTS) if source.number() % 4 else source.piece())


JSON = tuple(
    json.dumps(thing).encode()
    for thing in (
        {"type": "turn_done"},
        {"type": "error", "message": "something"},
        {"type": "error", "message": "bad client frame: what?"},
        {"type": "error", "message": "stream aborted"},
        {"type": "error", "message": 1},
        {"type": ["error"]},
    )
)


def json_text(source: Source) -> bytes:
    """Return the contents of a text frame: one that 0.5 sends, nested JSON, or anything else."""
    kind = source.number() % 8
    if kind < 5:
        return source.pick(JSON)
    return source.pick((b"[", b'{"type":', b"9")) * (1 << source.number() % 13) if kind == 5 else source.piece()


# --- frames -----------------------------------------------------------------------------------------------

#: First bytes of a frame (FIN, the reserved bits and the opcode): all valid ones, and some invalid ones.
FIRST_BYTES = (0x82, 0x02, 0x80, 0x00, 0x81, 0x01, 0x88, 0x89, 0x8A, 0x09, 0x83, 0x8B, 0xC2, 0x92)

SIZES = (0, 1, 2, 125, 126, 127, 1000, 65_535, 65_536, 70_000, 140_000)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a frame as a server sends it."""
    return head(opcode | (0x80 if fin else 0), len(payload)) + payload


def head(first: int, size: int) -> bytes:
    """Return the head of a frame, in the shortest form."""
    if size < 126:
        return bytes((first, size))
    return struct.pack("!BBH", first, 126, size) if size < 65536 else struct.pack("!BBQ", first, 127, size)


def frames(source: Source) -> Iterator[bytes]:
    """Yield frames of all kinds, whose payloads mean nothing."""
    while source:
        kind = source.number() % 4
        first = source.pick(FIRST_BYTES)
        if kind == 0:
            data = source.piece()
            yield head(first, len(data)) + data
        elif kind == 1:  # any length in any form, and a payload of another length
            form = source.pick((1, 3, 9))
            length = {1: b"", 3: b"\x7e", 9: b"\x7f"}[form] + source.take(max(1, form - 1))
            yield bytes((first,)) + length + source.piece()
        elif kind == 2:  # a close with a code
            yield frame(8, source.take(2) + source.piece()[:123])
        else:
            size = source.pick(SIZES)
            yield head(first, size) + bytes(size)
