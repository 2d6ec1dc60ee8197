"""Blobs that come in chunks."""

import io
import os
import subprocess
import sys

import pytest
from blake3 import blake3

from pie_sync._protocol.chunks import CHUNK_SIZE
from pie_sync._session import blobs
from pie_sync._session.blobs import BlobAssembler, BlobError
from pie_sync._support.large_pages import LARGE
from pie_sync.testing import LocalServer
from tests.programs import add_programs


def chunks_of(blob: bytes, size: int = 4):
    pieces = [blob[start : start + size] for start in range(0, len(blob), size)]
    blob_hash = blake3(blob).hexdigest()
    return [(blob_hash, index, len(pieces), piece) for index, piece in enumerate(pieces)]


def feed(assembler, instance_id, chunks):
    """Add chunks; return the blobs that they complete, and the errors."""
    outcome = []
    for chunk in chunks:
        try:
            blob = assembler.add(instance_id, *chunk)
        except BlobError as error:
            outcome.append(str(error))
        else:
            if blob is not None:
                outcome.append(blob)
    return outcome


def test_blobs_of_two_instances_interleaved():
    assembler = BlobAssembler(1000)
    outcome = []
    for one, two in zip(chunks_of(b"the same bytes"), chunks_of(b"the same bytes")):
        outcome += feed(assembler, "one", [one]) + feed(assembler, "two", [two])
    assert outcome == [b"the same bytes", b"the same bytes"]
    assert assembler._buffered == 0
    assert not assembler._downloads


def test_a_large_blob_with_a_wrong_chunk():
    assembler = BlobAssembler(2**30)
    good, bad = (chunks_of(os.urandom(5 * 2**20), CHUNK_SIZE) for _ in range(2))
    assert feed(assembler, "one", good) == [b"".join(piece for *_, piece in good)]
    bad[7] = (*bad[7][:3], bytes(CHUNK_SIZE))
    [error] = feed(assembler, "one", bad)
    assert "5242880 bytes do not match" in error


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([("h", 1, 3, b"a"), ("h", 2, 3, b"b")], "chunk 1 of 3, expected 0"),
        ([("h", 0, 3, b"a"), ("h", 2, 3, b"b")], "chunk 2 of 3, expected 1"),
        ([("h", 0, 3, b"a"), ("h", 0, 3, b"a"), ("h", 1, 3, b"b"), ("h", 2, 3, b"c")], "chunk 0 of 3, expected 1"),
        ([("h", 0, 3, b"a"), ("h", 1, 4, b"b"), ("h", 2, 3, b"c")], "total_chunks is 4, was 3"),
        ([("h", 0, 0, b"a")], "total_chunks is 0"),
        ([("h", -1, 2, b"a"), ("h", 0, 2, b"a"), ("h", 1, 2, b"a")], "chunk -1 of 2"),
        ([("h", 0, 2, b"a"), ("h", 1, 2, b"b")], "do not match"),
        ([("h", 0, 3, b"x" * 600), ("h", 1, 3, b"x" * 600), ("h", 2, 3, b"x" * 600)], "max_blob_size=1000"),
    ],
)
def test_a_bad_blob_is_one_error_and_leaves_nothing_behind(chunks, reason):
    assembler = BlobAssembler(1000)
    outcome = feed(assembler, "one", chunks)
    assert reason in outcome[0]
    assert len(outcome) == 1 or reason == "chunk -1 of 2", outcome
    assert assembler._buffered == 0
    assert all(assembler._downloads.values()), "not even the place where it was"
    assert feed(assembler, "one", chunks_of(b"a good one")) == [b"a good one"]


def test_incomplete_blobs_are_bounded_together():
    assembler = BlobAssembler(1000)
    outcome = []
    for number in range(20):
        outcome += feed(assembler, f"instance {number}", [(f"hash {number}", 0, 2, b"x" * 100)])
    assert len(outcome) == 10
    assert assembler._buffered == 1000
    for number in range(20):
        assembler.forget(f"instance {number}")
    assert assembler._buffered == 0


def test_a_blob_that_is_large_enough_to_make_room_for():
    """Its chunks are as large as they may be, or smaller, or the last one is."""
    assembler = BlobAssembler(2**30)
    blob = os.urandom(LARGE + 1234)
    for size in (CHUNK_SIZE, CHUNK_SIZE - 1, CHUNK_SIZE // 3):
        assert feed(assembler, "one", chunks_of(blob, size)) == [blob]
    assert assembler._reserved == 0


def test_room_is_made_within_the_limit_for_all():
    """A server may say that a blob has so many chunks, and then send none of them."""
    assembler = BlobAssembler(3 * LARGE)
    claimed = [2**40, -1, 0, LARGE // CHUNK_SIZE, 2 * LARGE // CHUNK_SIZE, LARGE // CHUNK_SIZE]
    reserved = []
    for number, total in enumerate(claimed):
        feed(assembler, f"instance {number}", [(f"hash {number}", 0, total, b"x")])
        reserved.append(assembler._reserved)
    assert reserved == [0, 0, 0, LARGE, 3 * LARGE, 3 * LARGE]
    assert feed(assembler, "another", chunks_of(b"a good one")) == [b"a good one"]
    feed(assembler, "instance 4", [("hash 4", 2, 2 * LARGE // CHUNK_SIZE, b"a wrong one")])
    assert assembler._reserved == LARGE
    assembler.keep_only(())
    assert assembler._reserved == 0


def test_the_number_of_incomplete_blobs_is_bounded():
    assembler = BlobAssembler(1000)
    outcome = feed(assembler, "one", [(f"hash {number}", 0, 2**32 - 1, b"") for number in range(1000)])
    assert len(outcome) == 1000 - BlobAssembler.MAX_INCOMPLETE
    assert len(assembler._downloads["one"]) == BlobAssembler.MAX_INCOMPLETE


@pytest.mark.parametrize("at", ["the first chunk", "the last chunk", "the end"])
def test_a_blob_that_finds_no_memory_is_one_error(at, monkeypatch):
    def fail(*_):
        raise MemoryError

    class Full(io.BytesIO):
        write = fail

    assembler = BlobAssembler(1000)
    chunks = chunks_of(b"a blob of some bytes")
    outcome = []
    for chunk in chunks:
        if at == "the first chunk" and chunk[1] == 0:
            with monkeypatch.context() as patch:
                patch.setattr(blobs, "writable", lambda size: Full())
                outcome += feed(assembler, "one", [chunk])
        elif chunk[1] == len(chunks) - 1:
            with monkeypatch.context() as patch:
                if at == "the last chunk":
                    assembler._downloads["one"][chunk[0]].data = Full()
                elif at == "the end":
                    patch.setattr(blobs, "Blob", fail)
                outcome += feed(assembler, "one", [chunk])
        else:
            outcome += feed(assembler, "one", [chunk])
    [error] = outcome
    assert "no memory" in error
    assert not assembler._downloads
    assert assembler._buffered == assembler._reserved == 0
    assert feed(assembler, "one", chunks_of(b"a good one")) == [b"a good one"]


#: A client that may have so many MiB more takes an event that is larger, between two others.
NO_MEMORY = """
import resource, sys
from pie_sync import Event, PieClient, ProtocolError

with PieClient(sys.argv[1], timeout=30) as client:
    client.authenticate("alice")
    instance = client.launch_instance_from_registry("sender")
    other = client.launch_instance_from_registry("echo")
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    room = int(sys.argv[2]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    instance.send("go")
    assert instance.recv(30) == (Event.Message, "before")
    try:
        print("got", len(instance.recv(30)[1]))
    except ProtocolError as error:
        print(error)
    assert instance.recv(30) == (Event.Message, "after")
    other.send("hello")
    assert other.recv(30) == (Event.Message, "hello")
    assert client.ping() > 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system has to limit the memory")
@pytest.mark.parametrize(("kind", "room"), [("blob", "100"), ("text", "40")])
def test_a_client_without_memory_for_an_event_goes_on(kind, room):
    """A text is told when its bytes have come, and there is no memory to make a string of them."""
    with LocalServer() as server:
        add_programs(server)

        @server.program("sender")
        def sender(instance):
            instance.receive()
            instance.send("before")
            if kind == "blob":
                instance.send_blob(bytes(200 * 2**20))
            else:
                instance.send("x" * (60 * 2**20))
            instance.send("after")
            instance.receive()

        result = subprocess.run(
            [sys.executable, "-c", NO_MEMORY, server.uri, room], capture_output=True, text=True, timeout=60
        )
    assert result.returncode == 0, result.stderr
    assert "no memory" in result.stdout
