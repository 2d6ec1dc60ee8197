"""Sends and receives the same bytes over a bare socket, without a client.

It counts and drops events, keeps a blob in memory that is allocated once, and sends prepared frames.

Its speed is the limit that the load source, the loopback device and the machine set for every client.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import msgpack
from task import Clock, payload, run

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.wire import CHUNK_SIZE, READ_SIZE, Inbox, fields, framed


class BareClient:
    def __init__(self, uri: str) -> None:
        where = urlsplit(uri)
        self.socket = socket.create_connection((where.hostname, where.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\n\r\n")
        self._inbox = Inbox(self.socket)
        self._inbox.take_http_head()
        self.request(type="identification", username="alice")

    def send(self, **message: Any) -> None:
        self.socket.sendall(framed(msgpack.packb(message), masked=True))

    def request(self, **message: Any) -> dict[str, Any]:
        self.send(corr_id=1, **message)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        _, head, _ = self._inbox.take_frame(1024)
        return fields(head)

    def launch(self, name: str, arguments: list[str]) -> str:
        message = {"type": "launch_instance_from_registry", "inferlet": name, "arguments": arguments}
        return self.request(**message, detached=False)["message"]

    def stream(self, instance_id: str, *, keep: bool = False) -> dict[str, Any]:
        size = int(self.request(type="query", subject="size", record="")["result"])
        clock = Clock()
        clock.start()
        view = memoryview(bytearray(size if keep else READ_SIZE))
        self.send(type="signal_instance", instance_id=instance_id, message="go")
        received = 0
        while received < size:
            count = self.socket.recv_into(view[received:] if keep else view)
            if count == 0:
                raise EOFError
            received += count
        return clock.stop()


def events(uri: str, instances: int, count: int, size: int) -> dict[str, Any]:
    client = BareClient(uri)
    for _ in range(instances):
        instance_id = client.launch("events", [str(instances), str(count), str(size), "1"])
    return client.stream(instance_id)


def download(uri: str, size: int) -> dict[str, Any]:
    client = BareClient(uri)
    return client.stream(client.launch("blob", [str(size)]), keep=True)


def upload(uri: str, size: int, again: bool = False) -> dict[str, Any]:
    client = BareClient(uri)
    total = -(-size // CHUNK_SIZE)
    head = {"type": "upload_program", "corr_id": 1, "program_hash": "", "total_chunks": total}
    data = payload(CHUNK_SIZE)
    frames = [
        framed(msgpack.packb({**head, "chunk_index": index, "chunk_data": data}), masked=True)
        for index in (0, total - 1)
    ]
    clock = Clock()
    clock.start()
    for _ in range(total - 1):
        client.socket.sendall(frames[0])
    client.socket.sendall(frames[1])
    client.answer()
    return clock.stop()


def ping(uri: str, times: int) -> dict[str, Any]:
    client = BareClient(uri)
    taken = []
    for _ in range(times):
        begin = perf_counter()
        client.request(type="ping")
        taken.append(perf_counter() - begin)
    return {"times": taken}


def connect(uri: str, times: int) -> dict[str, Any]:
    taken = []
    for _ in range(times):
        begin = perf_counter()
        client = BareClient(uri)
        taken.append(perf_counter() - begin)
        client.socket.close()
    return {"times": taken}


if __name__ == "__main__":
    run({"events": events, "download": download, "upload": upload, "ping": ping, "connect": connect})
