"""A plain blocking client: websocket-client, a thread that receives, a queue.Queue for each instance.

It has no error handling that would cost time, and nothing that makes it slow on purpose.
"""

from __future__ import annotations

import itertools
import queue
import threading
from time import perf_counter
from typing import Any

import msgpack
import websocket
from blake3 import blake3
from task import Clock, check, payload, run

CHUNK_SIZE = 256 * 1024


class PlainClient:
    def __init__(self, uri: str) -> None:
        self.socket = websocket.create_connection(uri)
        self.corr_ids = itertools.count(1)
        self.answers: dict[int, queue.Queue[Any]] = {}
        self.events: dict[str, queue.Queue[Any]] = {}
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()
        self.request(type="identification", username="alice")

    def listen(self) -> None:
        try:
            while data := self.socket.recv():
                message = msgpack.unpackb(data)
                if message["type"] == "instance_event":
                    self.events[message["instance_id"]].put((message["event"], message["message"]))
                    continue
                if message["type"] == "instance_launch_result":
                    self.events[message["message"]] = queue.Queue()
                self.answers.pop(message["corr_id"]).put(message)
        except (websocket.WebSocketConnectionClosedException, OSError):
            pass  # closed

    def send(self, **message: Any) -> None:
        self.socket.send_binary(msgpack.packb(message))

    def request(self, **message: Any) -> Any:
        corr_id = next(self.corr_ids)
        answer = self.answers[corr_id] = queue.Queue()
        self.send(corr_id=corr_id, **message)
        return answer.get()

    def launch(self, name: str, arguments: list[str]) -> str:
        message = {"type": "launch_instance_from_registry", "inferlet": name, "arguments": arguments}
        return self.request(**message, detached=False)["message"]

    def upload(self, data: bytes) -> None:
        corr_id = next(self.corr_ids)
        answer = self.answers[corr_id] = queue.Queue()
        head = {"type": "upload_program", "corr_id": corr_id, "program_hash": blake3(data).hexdigest()}
        total = -(-len(data) // CHUNK_SIZE)
        for index in range(total):
            chunk = data[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE]
            self.send(**head, chunk_index=index, total_chunks=total, chunk_data=chunk)
        answer.get()

    def close(self) -> None:
        self.socket.close()
        self.thread.join()


def events(uri: str, instances: int, count: int, size: int) -> dict[str, Any]:
    client = PlainClient(uri)
    launched = [client.launch("events", [str(instances), str(count), str(size), "1"]) for _ in range(instances)]
    counted = []

    def consume(instance_id: str) -> None:
        received, number = client.events[instance_id], 1
        while True:
            event, _text = received.get()
            if event == 1:
                break
            number += 1
        counted.append(number)

    threads = [threading.Thread(target=consume, args=(instance_id,)) for instance_id in launched[1:]]
    for thread in threads:
        thread.start()
    clock = Clock()
    clock.start()
    client.send(type="signal_instance", instance_id=launched[0], message="go")
    consume(launched[0])
    for thread in threads:
        thread.join()
    result = clock.stop()
    client.close()
    check(sum(counted), instances * (count + 1))
    return result


def upload(uri: str, size: int, again: bool = False) -> dict[str, Any]:
    data = payload(size)
    client = PlainClient(uri)
    if again:
        client.upload(data)
    clock = Clock()
    clock.start()
    client.upload(data)
    result = clock.stop()
    client.close()
    return result


def ping(uri: str, times: int) -> dict[str, Any]:
    client = PlainClient(uri)
    taken = []
    for _ in range(times):
        begin = perf_counter()
        client.request(type="ping")
        taken.append(perf_counter() - begin)
    client.close()
    return {"times": taken}


def connect(uri: str, times: int) -> dict[str, Any]:
    taken = []
    for _ in range(times):
        begin = perf_counter()
        client = PlainClient(uri)
        taken.append(perf_counter() - begin)
        client.close()
    return {"times": taken}


if __name__ == "__main__":
    run({"events": events, "upload": upload, "ping": ping, "connect": connect})
