"""A minimal client: websocket-client, msgpack, and any fields that a test sends."""

from __future__ import annotations

import base64
import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeVar

import msgpack
import websocket
from blake3 import blake3

PATIENCE = 20.0  # seconds after which a test that waits for the server fails
CLOSE_LIMIT = 6.0  # seconds: what LocalServer.close() promises, doubled for a busy machine
CHUNK_SIZE = 256 * 1024

MESSAGE, COMPLETED, ABORTED, EXCEPTION, SERVER_ERROR, OUT_OF_RESOURCES = range(6)
ENDS = (COMPLETED, ABORTED, EXCEPTION, SERVER_ERROR, OUT_OF_RESOURCES)


WireType = TypeVar("WireType", bound="Wire")


class ClosedError(Exception):
    """The server has closed the connection."""


class Wire:
    """A connection for either generation of the protocol."""

    #: The name of the flag in a response.
    success = "successful"

    def __init__(self, uri: str, **options: Any) -> None:
        self.socket = websocket.create_connection(uri, timeout=PATIENCE, **options)
        self._corr_ids = itertools.count(1)
        self._kept: deque[dict[str, Any]] = deque()  # messages that arrived before an answer

    def __enter__(self: WireType) -> WireType:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the WebSocket, if the connection is still open, and the TCP connection."""
        try:
            self.socket.close()
        except (websocket.WebSocketException, OSError):
            pass
        finally:
            self.vanish()

    def vanish(self) -> None:
        """Close the TCP connection without a close frame."""
        self.socket.shutdown()

    def send(self, kind: str, **fields: Any) -> None:
        self.send_bytes(msgpack.packb({"type": kind, **fields}, use_bin_type=True))

    def send_bytes(self, data: bytes) -> None:
        self.socket.send_binary(data)

    def receive(self) -> dict[str, Any]:
        """Return the next message, in the order of arrival."""
        if self._kept:
            return self._kept.popleft()
        return self._receive()

    def request(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return its answer; what arrives before it is kept for receive()."""
        corr_id = fields.setdefault("corr_id", next(self._corr_ids))
        self.send(kind, **fields)
        return self.answer(corr_id)

    def answer(self, corr_id: int) -> dict[str, Any]:
        while True:
            message = self._receive()
            if message.get("corr_id") == corr_id and message["type"] != "download_blob":
                return message
            self._kept.append(message)

    def assert_unanswered(self) -> None:
        """Check that messages sent before this call get no answer: the answer to a later ping comes first."""
        corr_id = next(self._corr_ids)
        self.send("ping", corr_id=corr_id)
        answer = self.receive()
        assert answer == {"type": "response", "corr_id": corr_id, self.success: True, "result": "Pong"}

    def assert_closed(self) -> None:
        """Check that the server closes the connection without a further message."""
        try:
            message = self.receive()
        except ClosedError:
            return
        raise AssertionError(f"still open: {message}")

    def upload(self, kind: str, payload: bytes, **fields: Any) -> dict[str, Any]:
        corr_id = next(self._corr_ids)
        for chunk in chunks(payload):
            self.send(kind, corr_id=corr_id, **chunk, **fields)
        return self.answer(corr_id)

    def _receive(self) -> dict[str, Any]:
        try:
            opcode, data = self.socket.recv_data()
        except websocket.WebSocketTimeoutException:
            raise AssertionError("the server sends nothing") from None
        except (websocket.WebSocketException, OSError) as error:
            raise ClosedError from error
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise ClosedError
        return self._decode(opcode, data)

    def _decode(self, opcode: int, data: bytes) -> dict[str, Any]:
        assert opcode == websocket.ABNF.OPCODE_BINARY
        message = msgpack.unpackb(data)
        assert isinstance(message, dict)
        return message


class RawClient(Wire):
    """Speaks the instance protocol."""

    def __init__(self, uri: str, username: str | None = "alice", **options: Any) -> None:
        super().__init__(uri, **options)
        if username is not None:
            answer = self.request("identification", username=username)
            assert answer["successful"], answer

    # What tests do all the time

    def launch(self, name: str, *arguments: str, detached: bool = False) -> str:
        answer = self.request(
            "launch_instance_from_registry", inferlet=name, arguments=list(arguments), detached=detached
        )
        assert answer["successful"], answer
        return str(answer["message"])

    def launch_hash(self, program_hash: str, *arguments: str, detached: bool = False) -> str:
        answer = self.request(
            "launch_instance", program_hash=program_hash, arguments=list(arguments), detached=detached
        )
        assert answer["successful"], answer
        return str(answer["message"])

    def start(self, wasm: bytes, *arguments: str) -> str:
        """Upload a program and launch it."""
        return self.launch_hash(self.upload_program(wasm)["result"], *arguments)

    def attach(self, instance_id: str) -> tuple[bool, str]:
        answer = self.request("attach_instance", instance_id=instance_id)
        assert answer["type"] == "instance_attach_result"
        return answer["successful"], answer["message"]

    def statuses(self) -> dict[str, str]:
        answer = self.request("list_instances")
        assert answer["type"] == "live_instances"
        return {entry["id"]: entry["status"] for entry in answer["instances"]}

    def signal(self, instance_id: str, message: str) -> None:
        self.send("signal_instance", instance_id=instance_id, message=message)

    def terminate(self, instance_id: str) -> tuple[bool, str]:
        answer = self.request("terminate_instance", instance_id=instance_id)
        return answer["successful"], answer["result"]

    def exists(self, record: str) -> tuple[bool, str]:
        """Query for a program, and return (successful, result)."""
        answer = self.request("query", subject="program_exists", record=record)
        return answer["successful"], answer["result"]

    def prove(self, signature: bytes) -> bool:
        answer = self.request("signature", signature=base64.b64encode(signature).decode())
        assert answer["type"] == "response"
        return bool(answer["successful"])

    def upload_program(self, wasm: bytes, **fields: Any) -> dict[str, Any]:
        program_hash = fields.pop("program_hash", blake3(wasm).hexdigest())
        return self.upload("upload_program", wasm, program_hash=program_hash, **fields)

    def upload_blob(self, instance_id: str, blob: bytes, **fields: Any) -> dict[str, Any]:
        blob_hash = fields.pop("blob_hash", blake3(blob).hexdigest())
        return self.upload("upload_blob", blob, instance_id=instance_id, blob_hash=blob_hash, **fields)

    def events(self, instance_id: str) -> Iterator[tuple[int | str, str]]:
        """Yield (event, text) of one instance until its end; messages of others are an error."""
        while True:
            message = self.receive()
            assert message["instance_id"] == instance_id, message
            if message["type"] == "streaming_output":
                ((stream, text),) = message["output"].items()
                yield stream, text
            else:
                assert message["type"] == "instance_event"
                yield message["event"], message["message"]
                if message["event"] in ENDS:
                    return

    def output(self, instance_id: str) -> tuple[str, str, tuple[int, str]]:
        """Return (stdout, stderr, end) of one instance."""
        *printed, end = self.events(instance_id)
        streams = {"Stdout": "", "Stderr": ""}
        for stream, text in printed:
            streams[str(stream)] += text
        code, text = end
        return streams["Stdout"], streams["Stderr"], (int(code), text)

    def receive_blob(self, instance_id: str) -> bytes:
        """Return a blob, assembled from its chunks and checked against its hash."""
        payload = b""
        index, total = 0, 1
        while index < total:
            message = self.receive()
            total = message["total_chunks"]
            assert message == {
                "type": "download_blob",
                "corr_id": 0,
                "instance_id": instance_id,
                "blob_hash": message["blob_hash"],
                "chunk_index": index,
                "total_chunks": total,
                "chunk_data": message["chunk_data"],
            }
            assert 0 < len(message["chunk_data"]) <= CHUNK_SIZE
            payload += message["chunk_data"]
            index += 1
        assert blake3(payload).hexdigest() == message["blob_hash"]
        return payload


def chunks(payload: bytes) -> list[dict[str, Any]]:
    """Return the chunk fields of each message of an upload; one empty chunk for an empty payload."""
    parts = [payload[at : at + CHUNK_SIZE] for at in range(0, len(payload), CHUNK_SIZE)] or [b""]
    return [
        {"chunk_index": index, "total_chunks": len(parts), "chunk_data": part} for index, part in enumerate(parts)
    ]


def blake3_hex(data: bytes) -> str:
    return str(blake3(data).hexdigest())
