import array
import io
import os

import pytest
from blake3 import blake3

from pie_sync._protocol.chunks import CHUNK_SIZE, count_chunks
from pie_sync._session.blobs import BlobAssembler, BlobError
from pie_sync._session.payloads import open_payload
from pie_sync._support.large_pages import LARGE

SIZES = [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE]


class OneByteAtATime(io.RawIOBase):
    """A raw file that gives less than it is asked for, as raw files may, and that can't seek."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 70_001) if size > 0 else size)


def open_all(source):
    with open_payload(source) as payload:
        chunks = [bytes(chunk) for chunk in payload.chunks()]
        return payload.size, payload.hash, chunks


@pytest.mark.parametrize("size", SIZES)
def test_every_kind_of_source_gives_the_same_chunks(size, tmp_path):
    data = os.urandom(size)
    path = tmp_path / "data"
    path.write_bytes(data)
    expected = [data[start : start + CHUNK_SIZE] for start in range(0, size, CHUNK_SIZE)] or [b""]
    assert len(expected) == count_chunks(size)
    with open(path, "rb") as buffered, open(path, "rb", buffering=0) as raw:
        sources = [data, bytearray(data), memoryview(data), str(path), path, io.BytesIO(data), buffered, raw]
        for source in [*sources, OneByteAtATime(data)]:
            assert open_all(source) == (size, blake3(data).hexdigest(), expected), source


def test_views_with_gaps_and_items_larger_than_a_byte():
    numbers = array.array("i", range(1000))
    assert b"".join(open_all(numbers)[2]) == numbers.tobytes()
    gappy = memoryview(bytes(range(200)))[::3]
    assert b"".join(open_all(gappy)[2]) == gappy.tobytes()


def test_a_file_is_sent_from_its_position(tmp_path):
    file = io.BytesIO(b"headerbody")
    file.seek(6)
    assert open_all(file) == (4, blake3(b"body").hexdigest(), [b"body"])


def test_a_pipe():
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as source:
        with open(write_end, "wb") as sink:
            sink.write(b"from a pipe")
        assert open_all(source)[2] == [b"from a pipe"]


@pytest.mark.parametrize("source", [io.StringIO("text"), 3, None, ["a list"], object()])
def test_what_can_not_be_uploaded(source):
    with pytest.raises(TypeError):
        open_all(source)


def test_a_text_file_gives_a_hint(tmp_path):
    path = tmp_path / "text"
    path.write_text("text")
    with open(path) as file, pytest.raises(TypeError, match="'rb'"):
        open_all(file)


def test_a_file_that_becomes_shorter(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"x" * (CHUNK_SIZE + 1))
    with open_payload(path) as payload:
        os.truncate(path, CHUNK_SIZE)
        with pytest.raises(OSError, match="shorter"):
            list(payload.chunks())


def test_a_missing_file():
    with pytest.raises(FileNotFoundError):
        open_all("there/is/no/such/file")


# --- reassembly -----------------------------------------------------------------------------------------


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
