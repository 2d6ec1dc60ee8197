"""A minimal client of the process protocol, and examples of all its messages."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import websocket
from blake3 import blake3

from pie_sync.testing import LocalServer

from .raw import CHUNK_SIZE, PATIENCE, Wire, chunks

TURN_DONE = {"text": {"type": "turn_done"}}
ENDS = ("return", "error")


class ProcessClient(Wire):
    """See :class:`Wire`.

    Args:
        uri: the server's URI, without a path.
        gateway: whether the server is one of Pie 0.5.
        username: the name to authenticate as; None leaves authentication to the test.
        turns: whether ``turn_done`` is received as a message, rather than skipped.
    """

    success = "ok"

    def __init__(
        self, uri: str, *, gateway: bool, username: str | None = "alice", turns: bool = False, **options: Any
    ) -> None:
        self.gateway = gateway
        self._turns = turns
        if gateway:
            uri += "/v1/ws"
            options.setdefault("header", ["x-pie-identity: default/raw"])
        super().__init__(uri, **options)
        if username is not None and not gateway:
            answer = self.request("auth_identify", username=username)
            assert answer["ok"], answer

    def close(self) -> None:
        """Close the connection. Servers of Pie 0.3 and 0.4 answer no close frame, so nothing waits for one."""
        if self.gateway:
            super().close()
        else:
            self.vanish()

    def _receive(self) -> dict[str, Any]:
        while True:
            message = super()._receive()
            if message != TURN_DONE or self._turns:
                return message

    def _decode(self, opcode: int, data: bytes) -> dict[str, Any]:
        if opcode == websocket.ABNF.OPCODE_TEXT:
            assert self.gateway
            return {"text": json.loads(data)}
        return super()._decode(opcode, data)

    def ask(self, kind: str, **fields: Any) -> tuple[bool, str]:
        """Send a request and return (ok, result)."""
        answer = self.request(kind, **fields)
        assert set(answer) == {"type", "corr_id", "ok", "result"}
        assert answer["type"] == "response"
        return answer["ok"], answer["result"]

    # What tests do all the time

    def full_name(self, name: str) -> str:
        """A name with the version that tests give their programs. On 0.5, which has bare names, as it is."""
        if self.gateway or "@" in name:
            return name
        there = [version for version in ("0.1.0", "1.0.0") if self.check(name, version) == (True, "true")]
        return f"{name}@{there[0] if there else '1.0.0'}"

    def launch(self, inferlet: str, text: str = "{}", capture: bool = True) -> str:
        inferlet = self.full_name(inferlet)
        ok, result = self.ask("launch_process", inferlet=inferlet, input=text, capture_outputs=capture)
        assert ok, result
        return result

    def launch_detached(self, inferlet: str, text: str = "{}") -> str:
        """Launch a process that is the only one with this input, and return its id."""
        assert self.launch(inferlet, text, capture=False) == ""
        (process_id,) = (entry["id"] for entry in self.list() if text in entry.values())
        return str(process_id)

    def list(self) -> list[dict[str, Any]]:
        ok, result = self.ask("list_processes")
        assert ok
        entries = json.loads(result)
        assert isinstance(entries, list)
        return entries

    def ids(self) -> set[str]:
        return {entry["id"] for entry in self.list()}

    def signal(self, process_id: str, message: str) -> None:
        self.send("signal_process", process_id=process_id, message=message)

    def attach(self, process_id: str) -> tuple[bool, str]:
        return self.ask("attach_process", process_id=process_id)

    def terminate(self, process_id: str) -> tuple[bool, str]:
        return self.ask("terminate_process", process_id=process_id)

    def check(self, name: str, version: str) -> tuple[bool, str]:
        return self.ask("check_program", name=name, version=version)

    def add(self, artifact: bytes, manifest: str, *, overwrite: bool = False, **fields: Any) -> tuple[bool, str]:
        program_hash = fields.pop("program_hash", blake3(artifact).hexdigest())
        answer = self.upload(
            "add_program",
            artifact,
            program_hash=program_hash,
            manifest=manifest,
            force_overwrite=overwrite,
            **fields,
        )
        return answer["ok"], answer["result"]

    def transfer(self, process_id: str, file: bytes, **fields: Any) -> None:
        file_hash = fields.pop("file_hash", blake3(file).hexdigest())
        for chunk in chunks(file):
            self.send("transfer_file", process_id=process_id, file_hash=file_hash, **{**chunk, **fields})

    def event(self) -> tuple[str, str]:
        """Return (event, value) of the next message, which must be an event."""
        message = self.receive()
        assert set(message) == {"type", "process_id", "event", "value"}, message
        assert message["type"] == "process_event"
        return message["event"], message["value"]

    def events(self, process_id: str) -> Iterator[tuple[str, str]]:
        """Yield (event, value) of one process until its end; messages of others are an error."""
        while True:
            message = self.receive()
            assert message["process_id"] == process_id, message
            assert message["type"] == "process_event"
            yield message["event"], message["value"]
            if message["event"] in ENDS:
                return

    def receive_file(self, process_id: str) -> tuple[bytes, str | None]:
        """Return a file with its name (None before 0.5), assembled and checked against its hash."""
        payload = b""
        index, total = 0, 1
        while index < total:
            message = self.receive()
            total = message["total_chunks"]
            assert message == {
                "type": "file",
                "process_id": process_id,
                "file_hash": message["file_hash"],
                "chunk_index": index,
                "total_chunks": total,
                "chunk_data": message["chunk_data"],
                **({"name": message["name"]} if self.gateway else {}),
            }
            assert 0 < len(message["chunk_data"]) <= CHUNK_SIZE
            payload += message["chunk_data"]
            index += 1
        assert blake3(payload).hexdigest() == message["file_hash"]
        return payload, message.get("name")


def manifest_of(name: str, version: str = "1.0.0") -> str:
    return f'[package]\nname = "{name}"\nversion = "{version}"\n'


CHUNK: dict[str, Any] = {"chunk_index": 0, "total_chunks": 1, "chunk_data": b""}


#: Messages that the server answers, each with all required fields.
COMPLETE: dict[str, dict[str, Any]] = {
    "auth_identify": {"corr_id": 9, "username": "bob"},
    "auth_prove": {"corr_id": 9, "signature": ""},
    "ping": {"corr_id": 9},
    "query": {"corr_id": 9, "subject": "model_status", "record": ""},
    "check_program": {"corr_id": 9, "name": "x", "version": "1.0.0"},
    "add_program": {
        "corr_id": 9,
        "program_hash": "0",
        "manifest": manifest_of("x"),
        "force_overwrite": False,
        **CHUNK,
    },
    "launch_process": {"corr_id": 9, "inferlet": "x", "input": "{}", "capture_outputs": True},
    "attach_process": {"corr_id": 9, "process_id": "x"},
    "list_processes": {"corr_id": 9},
    "terminate_process": {"corr_id": 9, "process_id": "x"},
}


#: Messages that the server never answers.
UNANSWERED: dict[str, dict[str, Any]] = {
    "signal_process": {"process_id": "x", "message": ""},
    "transfer_file": {"process_id": "x", "file_hash": "0", **CHUNK},
}


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def upgrade(server: LocalServer, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Request a WebSocket; return the status, and the body of a refusal."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={**UPGRADE, **headers})
        response = connection.getresponse()
        return response.status, b"" if response.status == 101 else response.read()
    finally:
        connection.close()
