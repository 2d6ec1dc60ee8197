"""The server's side of the process protocol (Pie 0.3 to 0.5): the part that all of its versions share.

This protocol calls an instance a process, and a blob a file.
"""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from blake3 import blake3

from ...events import Event
from .._programs.instance import Instance, Launch, Output
from .._server.channel import Channel
from .._server.core import Core
from .chunks import BadChunkError, ChunkAssembler, split
from .encoding import bool_text, normalized_uuid, pack
from .installed import InstalledPrograms, ProgramRules
from .schema import Schema, is_bool, is_bytes, is_str, is_uint32

__all__ = ["ATTACHED", "NOT_FOUND", "REQUESTS", "TERMINATED", "Message", "ProcessDialect", "encode_output"]

requests = logging.getLogger("pie_sync.testing.requests")

#: With early_events: for how many seconds the answer to a launch is delayed, so that events come before it.
EARLY_EVENTS_LIMIT = 0.05

#: For how many seconds a file waits for a program that has just sent output to ask for a file.
BLOB_WAIT = 0.5

Message = Mapping[str, Any]

_CHUNK = {"chunk_index": is_uint32, "total_chunks": is_uint32, "chunk_data": is_bytes}

#: The messages that all servers of this generation know, apart from authentication.
REQUESTS: Schema = {
    "check_program": {"corr_id": is_uint32, "name": is_str, "version": is_str},
    "query": {"corr_id": is_uint32, "subject": is_str, "record": is_str},
    "add_program": {
        "corr_id": is_uint32,
        "program_hash": is_str,
        "manifest": is_str,
        "force_overwrite": is_bool,
        **_CHUNK,
    },
    "launch_process": {
        "corr_id": is_uint32,
        "inferlet": is_str,
        "input": is_str,
        "capture_outputs": is_bool,
    },
    "attach_process": {"corr_id": is_uint32, "process_id": is_str},
    "terminate_process": {"corr_id": is_uint32, "process_id": is_str},
    "signal_process": {"process_id": is_str, "message": is_str},
    "transfer_file": {"process_id": is_str, "file_hash": is_str, **_CHUNK},
    "list_processes": {"corr_id": is_uint32},
    "ping": {"corr_id": is_uint32},
}

_EVENTS = {
    Event.Stdout: "stdout",
    Event.Stderr: "stderr",
    Event.Message: "message",
    Event.Completed: "return",
}
_ABORTED = "Signal"

NOT_FOUND = "Process not found"
ATTACHED = "Process attached"
TERMINATED = "Process terminated"


class ProcessDialect(ABC):
    """The process protocol on one connection. Used by the connection's thread only.

    Args:
        core: the state of the server.
        channel: takes the answers, and the output of attached processes.
        rules: how programs are named and installed.
        early_events: whether the answer to a launch is delayed, so that events come before it.
    """

    def __init__(
        self,
        core: Core,
        channel: Channel,
        *,
        rules: ProgramRules,
        early_events: bool,
    ) -> None:
        self._core = core
        self._channel = channel
        self._early_events = early_events
        self._programs = InstalledPrograms(core, rules)
        self._file_uploads: dict[str, ChunkAssembler] = {}

    @abstractmethod
    def receive(self, message: bytes | str) -> None:
        """See :class:`Dialect`."""

    @abstractmethod
    def lost(self, unsent: list[Output]) -> None:
        """See :class:`Dialect`."""

    @property
    @abstractmethod
    def _username(self) -> str:
        """The user whose processes this connection sees."""

    def _handle(self, message: Message) -> None:
        kind = message["type"]
        requests.debug("received %s", kind)
        getattr(self, f"_on_{kind}")(message)

    # Queries

    def _on_ping(self, message: Message) -> None:
        self._respond(message, True, "Pong")

    def _on_query(self, message: Message) -> None:
        subject = message["subject"]
        if subject == "model_status":
            status = {"local-server.processes": len(self._core.instances())}
            self._respond(message, True, json.dumps(status))
        else:
            self._on_unknown_subject(message, subject)

    @abstractmethod
    def _on_unknown_subject(self, message: Message, subject: str) -> None:
        """Handle a query with an unknown subject."""

    def _on_list_processes(self, message: Message) -> None:
        entries = [
            {
                "id": process.id,
                "username": process.username,
                "program": process.program_name,
                "input": process.arguments[0],
                "elapsed_secs": process.elapsed_secs,
            }
            for process in self._core.instances(self._username)
        ]
        self._respond(message, True, json.dumps(entries, separators=(",", ":"), ensure_ascii=False))

    # Programs

    def _on_check_program(self, message: Message) -> None:
        try:
            found = self._programs.exists(message["name"], message["version"])
        except ValueError as error:
            self._respond(message, False, str(error))
        else:
            self._respond(message, True, bool_text(found))

    def _on_add_program(self, message: Message) -> None:
        answer = self._programs.add(message)
        if answer is not None:
            self._respond(message, *answer)

    # Processes

    def _on_launch_process(self, message: Message) -> None:
        try:
            name, program = self._programs.find(message["inferlet"])
        except ValueError as error:
            self._respond(message, False, str(error))
            return
        is_captured = message["capture_outputs"]
        launch = Launch(
            program,
            message["inferlet"],
            name,
            [message["input"]],
            self._username,
            is_json=True,
            captures_output=is_captured,
        )
        receiver = self._channel if is_captured else None

        def answer(process_id: str) -> None:
            self._respond(message, True, process_id if is_captured else "")

        if self._early_events:
            process = self._core.launch(launch, receiver)
            process.wait_for_end(EARLY_EVENTS_LIMIT)
            answer(process.id)
        else:
            self._core.launch(launch, receiver, answer)

    def _on_attach_process(self, message: Message) -> None:
        process_id = normalized_uuid(message["process_id"])
        process = self._core.find(process_id or "")
        if process_id is None:
            self._respond(message, False, "Invalid process_id")
        elif process is None:
            self._respond(message, False, NOT_FOUND)
        else:
            self._attach(message, process)

    @abstractmethod
    def _attach(self, message: Message, process: Instance) -> None:
        """Attach to a process, or refuse to."""

    def _on_terminate_process(self, message: Message) -> None:
        process_id = normalized_uuid(message["process_id"])
        process = self._core.find(process_id or "")
        if process_id is None:
            self._respond(message, False, "Invalid process ID")
        elif process is None:
            self._respond(message, False, NOT_FOUND)
        else:
            self._terminate(message, process)

    @abstractmethod
    def _terminate(self, message: Message, process: Instance) -> None:
        """End a process, or refuse to."""

    def _on_signal_process(self, message: Message) -> None:
        process = self._find_attached(message)
        if process is not None:
            process.mailbox.put_message(message["message"])

    def _on_transfer_file(self, message: Message) -> None:
        process = self._find_attached(message)
        if process is None:
            return
        file_hash = message["file_hash"]
        upload = self._file_uploads.setdefault(file_hash, ChunkAssembler(file_hash, "File"))
        try:
            file = upload.add(message["chunk_index"], message["total_chunks"], message["chunk_data"])
        except BadChunkError:
            del self._file_uploads[file_hash]
            return
        if file is not None:
            del self._file_uploads[file_hash]
            process.mailbox.put_blob_if_awaited(file, BLOB_WAIT)

    def _find_attached(self, message: Message) -> Instance | None:
        return self._core.find_attached(normalized_uuid(message["process_id"]) or "", self._channel)

    # Answers

    def _respond(self, request: Message, ok: bool, result: str) -> None:
        self._channel.answer(pack({"type": "response", "corr_id": request["corr_id"], "ok": ok, "result": result}))


def encode_output(output: Output, *, names_files: bool) -> Iterator[bytes]:
    """Yield the messages for an output.

    Args:
        output: the output.
        names_files: whether the messages of a file have a field for its name.
    """
    process_id, event, data = output.instance.id, output.event, output.data
    if isinstance(data, bytes):
        message: dict[str, Any] = {
            "type": "file",
            "process_id": process_id,
            "file_hash": blake3(data).hexdigest(),
        }
        if names_files:
            message["name"] = getattr(data, "name", None)
        for index, total, chunk in split(data):
            yield pack({**message, "chunk_index": index, "total_chunks": total, "chunk_data": chunk})
        return
    value = _ABORTED if event is Event.Aborted else data
    kind = _EVENTS.get(event, "error")
    yield pack({"type": "process_event", "process_id": process_id, "event": kind, "value": value})
