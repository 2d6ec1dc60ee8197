"""The server's side of the instance protocol (Pie up to 0.2)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from blake3 import blake3

from ...events import Event
from .._programs.instance import Launch, Output, Program, Receiver
from .._programs.uncompiled import NOT_COMPILED, Uncompiled
from .._server.catalog import ProgramName
from .._server.channel import Channel
from .._server.client import CloseConnection
from .._server.core import Core, NotInstalledError
from .._server.users import INTERNAL_USERNAME, Login, LoginAnswer
from .chunks import BadChunkError, ChunkAssembler, OldChunkAssembler, split
from .encoding import bool_text, normalized_uuid, pack
from .manifest import program_name
from .registry import download_failure
from .schema import Schema, decode, is_bool, is_bytes, is_str, is_str_list, is_uint32

__all__ = ["VARIANTS", "InstanceDialect", "encode_output"]

requests = logging.getLogger("pie_sync.testing.requests")

VARIANTS = ("hash", "name")
TOKEN_REFUSAL_DELAY = 1.0  # seconds
AUTHENTICATION = ("identification", "signature", "internal_authenticate")
TERMINATED = "Instance terminated"
RUNTIME_ERROR = "Runtime error: "

#: How many instances servers by name list: the youngest.
LISTED_BY_NAME = 50

Message = Mapping[str, Any]

_CHUNK = {"chunk_index": is_uint32, "total_chunks": is_uint32, "chunk_data": is_bytes}
_LAUNCH = {"corr_id": is_uint32, "arguments": is_str_list, "detached": is_bool}

_BY_HASH: Schema = {
    "identification": {"corr_id": is_uint32, "username": is_str},
    "signature": {"corr_id": is_uint32, "signature": is_str},
    "internal_authenticate": {"corr_id": is_uint32, "token": is_str},
    "ping": {"corr_id": is_uint32},
    "query": {"corr_id": is_uint32, "subject": is_str, "record": is_str},
    "upload_program": {"corr_id": is_uint32, "program_hash": is_str, **_CHUNK},
    "launch_instance": {"program_hash": is_str, **_LAUNCH},
    "launch_instance_from_registry": {"inferlet": is_str, **_LAUNCH},
    "attach_instance": {"corr_id": is_uint32, "instance_id": is_str},
    "list_instances": {"corr_id": is_uint32},
    "terminate_instance": {"corr_id": is_uint32, "instance_id": is_str},
    "signal_instance": {"instance_id": is_str, "message": is_str},
    "upload_blob": {"corr_id": is_uint32, "instance_id": is_str, "blob_hash": is_str, **_CHUNK},
}
_BY_NAME: Schema = {
    **_BY_HASH,
    "upload_program": {"manifest": is_str, **_BY_HASH["upload_program"]},
    "launch_instance": {"inferlet": is_str, **_LAUNCH},
}
SCHEMAS: Mapping[str, Schema] = {"hash": _BY_HASH, "name": _BY_NAME}


class InstanceDialect:
    """The instance protocol on one connection. Used by the connection's thread only.

    A server of this generation does not answer what it does not understand: invalid bytes, unknown types and query
    subjects, and messages without a required field.

    Args:
        core: the state of the server.
        channel: takes the answers, and the output of attached instances.
        variant: ``"hash"`` or ``"name"``: how a launch names its program.
        challenge_message: whether the challenge is sent in a message of its own type.
        blobs_lock_up: whether a blob for an instance locks up the connection: nothing is answered any more, and
            no event is sent.
    """

    def __init__(
        self, core: Core, channel: Channel, *, variant: str, challenge_message: bool, blobs_lock_up: bool
    ) -> None:
        self._core = core
        self._channel = channel
        self._by_name = variant == "name"
        self._schema = SCHEMAS[variant]
        self._challenge_message = challenge_message
        self._blobs_lock_up = blobs_lock_up
        self._is_locked_up = False
        self._login = Login(core.users)
        self._program_upload: ChunkAssembler | None = None
        self._blob_uploads: dict[str, ChunkAssembler] = {}

    def receive(self, message: bytes | str) -> None:
        """See :class:`Dialect`."""
        decoded = decode(message, self._schema) if isinstance(message, bytes) else None
        if decoded is None:
            return
        kind = decoded["type"]
        requests.debug("received %s", kind)
        if self._is_locked_up and kind != "upload_blob":
            return
        if self._login.username is None:
            if kind not in AUTHENTICATION or (kind == "signature") != self._login.is_challenged:
                raise CloseConnection
        elif kind in AUTHENTICATION:
            self._respond(decoded, True, "Already authenticated")
            return
        getattr(self, f"_on_{kind}")(decoded)

    def lost(self, unsent: list[Output]) -> None:
        """Detach the instances of the connection. None of them ends. If it is locked up, they stay attached."""
        if not self._is_locked_up:
            self._core.detach(self._channel, unsent)

    # Authentication

    def _on_identification(self, message: Message) -> None:
        answer = self._login.identify(message["username"])
        if answer.challenge and self._challenge_message:
            self._answer("challenge", message, challenge=answer.text)
        else:
            self._respond_login(message, answer)

    def _on_signature(self, message: Message) -> None:
        self._respond_login(message, self._login.prove(message["signature"]))

    def _on_internal_authenticate(self, message: Message) -> None:
        answer = self._login.by_token(message["token"])
        if not answer.successful:
            self._core.closing.wait(TOKEN_REFUSAL_DELAY)
        self._respond_login(message, answer)

    def _respond_login(self, message: Message, answer: LoginAnswer) -> None:
        self._respond(message, answer.successful, answer.text)
        if not answer.successful:
            raise CloseConnection

    # Queries

    def _on_ping(self, message: Message) -> None:
        self._respond(message, True, "Pong")

    def _on_query(self, message: Message) -> None:
        subject, record = message["subject"], message["record"]
        running = len(self._core.instances())
        if subject == "program_exists":
            self._query_program(message, record)
        elif subject == "model_status":
            self._respond(message, True, json.dumps({"local-server": {"instances": running}}))
        elif subject == "backend_stats":
            programs = len(self._core.catalog)
            self._respond(message, True, f"instances: {running}\nuploaded programs: {programs}\n")

    def _query_program(self, message: Message, record: str) -> None:
        catalog = self._core.catalog
        if not self._by_name:
            self._respond(message, True, bool_text(catalog.by_hash(record) is not None))
            return
        name, has_hash, program_hash = record.partition("#")
        found = catalog.by_name(ProgramName.split(name))
        same = not has_hash or found is catalog.by_hash(program_hash)
        self._respond(message, True, bool_text(found is not None and same))

    def _on_list_instances(self, message: Message) -> None:
        sees_all = self._login.username == INTERNAL_USERNAME
        instances = self._core.instances(None if sees_all else self._login.username)
        entries = [
            {
                "id": instance.id,
                "arguments": instance.arguments,
                "status": instance.status,
                "username": instance.username,
                "elapsed_secs": instance.elapsed_secs,
                "kv_pages_used": 0,
            }
            for instance in instances[-LISTED_BY_NAME if self._by_name else 0 :]
        ]
        self._answer("live_instances", message, instances=entries)

    # Programs and instances

    def _on_upload_program(self, message: Message) -> None:
        program_hash = message["program_hash"]
        if self._program_upload is None:
            self._program_upload = OldChunkAssembler(program_hash, "Program")
        try:
            wasm = self._program_upload.add(*_chunk(message))
            if wasm is None:
                return
            name = program_name(message["manifest"]) if self._by_name else None
        except ValueError as error:
            # The upload is over: its later chunks are bad first chunks of a new upload.
            self._program_upload = None
            self._respond(message, False, str(error))
            return
        self._program_upload = None
        try:
            program = self._core.catalog.by_hash(program_hash) or self._compile(wasm)
        except NotInstalledError as error:  # no real server says so, but to hang up would be a riddle
            self._respond(message, False, str(error))
            return
        self._core.catalog.add_upload(program_hash, program, name)
        if isinstance(program, Uncompiled):
            self._respond(message, False, NOT_COMPILED)
        else:
            self._respond(message, True, program_hash)

    def _compile(self, wasm: bytes) -> Program:
        """Compile a program. By name, the server keeps what it can't compile; by hash, it hangs up."""
        try:
            return self._core.compile(wasm)
        except NotInstalledError:
            raise
        except ValueError as error:
            if not self._by_name:
                raise CloseConnection from error
            return Uncompiled()

    def _on_launch_instance(self, message: Message) -> None:
        if self._by_name:
            self._launch_by_name(message, self._core.catalog.by_name)
            return
        program_hash = message["program_hash"]
        program = self._core.catalog.by_hash(program_hash)
        if program is None:
            self._answer_launch(message, False, f"No such program with hash={program_hash}")
        else:
            self._launch(message, program, program_hash, program_hash)

    def _on_launch_instance_from_registry(self, message: Message) -> None:
        self._launch_by_name(message, self._core.catalog.registered)

    def _launch_by_name(self, message: Message, find: Callable[[ProgramName], Program | None]) -> None:
        name = ProgramName.split(message["inferlet"])
        program = find(name)
        if program is None:
            self._answer_launch(message, False, download_failure(*name))
        elif isinstance(program, Uncompiled):
            self._answer_launch(message, False, NOT_COMPILED)
        else:
            self._launch(message, program, message["inferlet"], name.name)

    def _launch(self, message: Message, program: Program, requested: str, name: str) -> None:
        receiver: Receiver | None = None if message["detached"] else self._channel
        launch = Launch(program, requested, name, message["arguments"], self._username)
        self._core.launch(launch, receiver, lambda instance_id: self._answer_launch(message, True, instance_id))

    def _answer_launch(self, message: Message, successful: bool, text: str) -> None:
        self._answer("instance_launch_result", message, successful=successful, message=text)

    def _on_attach_instance(self, message: Message) -> None:
        def answer(successful: bool, text: str) -> None:
            self._answer("instance_attach_result", message, successful=successful, message=text)

        instance_id = normalized_uuid(message["instance_id"])
        if instance_id is None:
            answer(False, "Invalid instance_id")
            return
        instance = self._core.find(instance_id)
        if instance is None:
            answer(False, "Instance not found")
        elif not instance.attach(self._channel, lambda: answer(True, "Instance attached")):
            answer(False, "Instance already attached")

    def _on_terminate_instance(self, message: Message) -> None:
        instance_id = normalized_uuid(message["instance_id"])
        if instance_id is None:
            self._respond(message, False, "Malformed instance ID")
            return
        instance = self._core.find(instance_id)
        if instance is None:
            self._respond(message, True, TERMINATED)
        else:
            self._core.terminate(instance, lambda: self._respond(message, True, TERMINATED))

    def _on_signal_instance(self, message: Message) -> None:
        instance = self._core.find_attached(normalized_uuid(message["instance_id"]) or "", self._channel)
        if instance is not None:
            instance.mailbox.put_message(message["message"])

    def _on_upload_blob(self, message: Message) -> None:
        instance_id = normalized_uuid(message["instance_id"])
        if instance_id is None:
            self._respond(message, False, f"Invalid instance_id: {message['instance_id']}")
            return
        instance = self._core.find_attached(instance_id, self._channel)
        if instance is None:
            self._respond(message, False, f"Instance not owned by client: {message['instance_id']}")
            return
        if self._blobs_lock_up:
            self._is_locked_up = True
            self._channel.mute()
        blob_hash = message["blob_hash"]
        assembly = self._blob_uploads.get(blob_hash) or OldChunkAssembler(blob_hash, "Blob")
        self._blob_uploads[blob_hash] = assembly
        try:
            blob = assembly.add(*_chunk(message))
        except BadChunkError as error:
            del self._blob_uploads[blob_hash]
            self._respond(message, False, str(error))
            return
        if blob is not None:
            del self._blob_uploads[blob_hash]
            instance.mailbox.put_blob(blob)
            self._respond(message, True, "Blob sent to instance")

    # Answers

    @property
    def _username(self) -> str:
        username = self._login.username
        assert username is not None, "receive() checks that the client is authenticated"
        return username

    def _respond(self, message: Message, successful: bool, result: str) -> None:
        self._answer("response", message, successful=successful, result=result)

    def _answer(self, kind: str, request: Message, /, **fields: Any) -> None:
        self._channel.answer(pack({"type": kind, "corr_id": request["corr_id"], **fields}))


def encode_output(output: Output) -> Iterator[bytes]:
    """Yield the messages for an output."""
    instance_id, event, data = output.instance.id, output.event, output.data
    if isinstance(data, bytes):
        blob_hash = blake3(data).hexdigest()
        for index, total, chunk in split(data):
            yield pack(
                {
                    "type": "download_blob",
                    "corr_id": 0,
                    "instance_id": instance_id,
                    "blob_hash": blob_hash,
                    "chunk_index": index,
                    "total_chunks": total,
                    "chunk_data": chunk,
                }
            )
    elif event in (Event.Stdout, Event.Stderr):
        yield pack({"type": "streaming_output", "instance_id": instance_id, "output": {event.name: data}})
    else:
        text = RUNTIME_ERROR + data if event is Event.Exception else data
        yield pack({"type": "instance_event", "instance_id": instance_id, "event": event.value, "message": text})


def _chunk(message: Message) -> tuple[int, int, bytes]:
    return message["chunk_index"], message["total_chunks"], message["chunk_data"]
