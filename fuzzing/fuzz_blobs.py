"""Chunks of blobs for the assembler, in any order and with wrong fields.

- The assembler raises only ``BlobError``, with a short text.
- Each assembled blob matches its hash.
- The memory is counted to the byte, stays within its limit, and is all freed.
- Afterwards the assembler still assembles a good blob.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

from fuzzing.grammar import CHUNKS, chunks
from fuzzing.harness import Source
from pie_sync._session.blobs import BlobAssembler, BlobError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BLOB_SIZE = 5000
INSTANCES = ("first", "second")
NUMBERS = (-1, 0, 1, 2, 3, 2**31, 2**32, -(2**63), 2**64 - 1)


def check(data: bytes) -> None:
    source = Source(data)
    assembler = BlobAssembler(MAX_BLOB_SIZE)
    while source:
        instance_id = source.pick(INSTANCES)
        kind = source.number() % 16
        if kind == 0:
            assembler.forget(instance_id)
        elif kind == 1:  # many incomplete blobs
            count = source.number()
            for number in range(count):
                add(assembler, instance_id, f"{number:064}", 0, 2, source.take(1))
        else:
            blob_hash, index, total, content = source.pick(CHUNKS)
            if kind == 2:
                content = source.piece()
            elif kind == 3:
                index = source.pick(NUMBERS)
            elif kind == 4:
                total = source.pick(NUMBERS)
            elif kind == 5:
                blob_hash = blake3(source.piece()).hexdigest()
            elif kind == 6:
                content = bytes(source.number(2) % 6000)
            elif kind == 7:  # a whole blob, in a few chunks
                content = bytes(source.number(2) % 6000)
                for chunk in chunks(content, source.number() % 4 + 1):
                    add(assembler, instance_id, *chunk)
                continue
            add(assembler, instance_id, blob_hash, index, total, content)
        check_memory(assembler)
    for instance_id in INSTANCES:
        # The chunks of each instance are forgotten by themselves: those of the other must not matter.
        assembler.forget(instance_id)
    assert assembler._buffered == 0
    assert assembler._downloads == {}
    good = b"good" * 100
    assert [add(assembler, "first", *chunk) for chunk in chunks(good, 3)] == [None, None, good]


def add(
    assembler: BlobAssembler, instance_id: str, blob_hash: str, index: int, total: int, content: bytes
) -> bytes | None:
    try:
        blob = assembler.add(instance_id, blob_hash, index, total, content)
    except BlobError as error:
        assert len(str(error)) < 300
        return None
    if blob is not None:
        assert blake3(blob).hexdigest() == blob_hash
        assert len(blob) <= MAX_BLOB_SIZE
    return blob


def check_memory(assembler: BlobAssembler) -> None:
    held = 0
    for downloads in assembler._downloads.values():
        assert 0 < len(downloads) <= BlobAssembler.MAX_INCOMPLETE
        for download in downloads.values():
            size = 0 if download.data is None else len(download.data.getbuffer())
            assert size == download.size
            held += size
    assert held == assembler._buffered <= MAX_BLOB_SIZE


def seeds() -> Iterator[bytes]:
    everything = b"".join(bytes((0, 15, number)) for number in range(len(CHUNKS)))
    yield everything
    yield everything.replace(b"\x00\x0f", b"\x01\x0f") + b"\x00\x00"
    for kind in range(16):
        yield bytes((0, kind, 5, 4, 1, 1)) + everything[:18] + bytes((1, kind, 7, 3, 1))
    yield bytes((0, 1, 200)) + bytes(200) + everything
    yield bytes((0, 7, 5, 0x13, 0x88, 2))
    yield bytes((0, 7, 5, 0x13, 0x89, 2))
