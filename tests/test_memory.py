"""Uploading a file does not bring it into memory."""

import subprocess
import sys
import threading

import msgpack
from websockets.sync.server import serve

#: Run in a process of its own, whose size nothing else changes.
UPLOAD = """
import os, sys, psutil
from pie_sync import PieClient

path, uri = sys.argv[1:]
with PieClient(uri) as client:
    client.authenticate("alice")
    client.upload_program(os.devnull)
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
