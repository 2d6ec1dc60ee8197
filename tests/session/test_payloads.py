"""Uploads: every kind of source, and memory that does not grow with them."""

import array
import io
import os
import subprocess
import sys
import threading

import msgpack
import pytest
from blake3 import blake3
from websockets.sync.server import serve

from pie_sync._protocol.chunks import CHUNK_SIZE, count_chunks
from pie_sync._session.payloads import open_payload

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


def test_a_text_file_names_the_cure(tmp_path):
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


# --- memory -----------------------------------------------------------------------------------------------

#: Run in a process of its own, whose size nothing else changes.
UPLOAD = """
import os, sys, psutil
from pie_sync import PieClient

path, uri = sys.argv[1:]
with PieClient(uri) as client:
    client.authenticate("alice")
    client.upload_program(b"\\0asm")
    process = psutil.Process()
    before = process.memory_info().rss
    peak = 0
    def progress(sent, total):
        global peak
        if sent % (1 << 24) == 0:
            peak = max(peak, process.memory_info().rss)
    client.upload_program(path, progress=progress)
    print(max(peak, process.memory_info().rss) - before)
"""


def confirm_uploads(connection):
    """Say yes to identification and to every upload, and keep nothing."""
    for raw in connection:
        message = msgpack.unpackb(raw)
        if message["type"] == "identification":
            result = "Authenticated (Engine disabled authentication)"
        elif message["type"] != "upload_program":
            continue
        elif message["chunk_index"] == message["total_chunks"] - 1:
            result = message["program_hash"]
        else:
            continue
        answer = {"type": "response", "corr_id": message["corr_id"], "successful": True, "result": result}
        connection.send(msgpack.packb(answer))


def test_one_gibibyte_from_a_path_grows_the_process_by_less_than_32_mib(tmp_path):
    path = tmp_path / "large.wasm"
    with open(path, "wb") as file:
        file.write(b"\0asm")
        file.truncate(1 << 30)  # a file with a hole: as long as any other to read, but no space on disk
    with serve(confirm_uploads, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            uri = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
            result = subprocess.run(
                [sys.executable, "-c", UPLOAD, path, uri], capture_output=True, text=True, timeout=100
            )
        finally:
            server.shutdown()
            thread.join()
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 32 << 20
