"""The process protocol (Pie 0.3 to 0.5), as servers speak it: what all of them have in common.

An instance is called a process here, and a blob a file.
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
from .chunks import Assembly, BadChunkError, cut
from .encoding import canonical, flag, pack
from .installed import InstalledPrograms
from .schema import Schema, is_flag, is_raw, is_text, is_uint32

__all__ = ["REQUESTS", "Message", "ProcessDialect", "encode_output"]

requests = logging.getLogger("pie_sync.testing.requests")

#: How long the answer to a launch is held back so that events overtake it, in seconds.
EARLY_EVENTS_LIMIT = 0.05

#: How long a program that has just sent something may take until it waits for a blob, in seconds.
BLOB_PATIENCE = 0.5

Message = Mapping[str, Any]

_CHUNK = {"chunk_index": is_uint32, "total_chunks": is_uint32, "chunk_data": is_raw}

#: The messages that all servers of this generation know, but for those of the authentication.
REQUESTS: Schema = {
    "check_program": {"corr_id": is_uint32, "name": is_text, "version": is_text},
    "query": {"corr_id": is_uint32, "subject": is_text, "record": is_text},
    "add_program": {
        "corr_id": is_uint32,
        "program_hash": is_text,
        "manifest": is_text,
        "force_overwrite": is_flag,
        **_CHUNK,
    },
    "launch_process": {
        "corr_id": is_uint32,
        "inferlet": is_text,
        "input": is_text,
        "capture_outputs": is_flag,
    },
    "attach_process": {"corr_id": is_uint32, "process_id": is_text},
    "terminate_process": {"corr_id": is_uint32, "process_id": is_text},
    "signal_process": {"process_id": is_text, "message": is_text},
    "transfer_file": {"process_id": is_text, "file_hash": is_text, **_CHUNK},
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


class ProcessDialect(ABC):
    """The process protocol on one connection. For the connection's thread only.

    Args:
        core: what the server knows.
        channel: takes the answers, and the output of the processes that get attached.
        early_events: hold the answer to a launch back, so that what happens first overtakes it.
    """

    #: What the list of processes calls the text that a process was launched with.
    input_field = "input"

    def __init__(self, core: Core, channel: Channel, *, early_events: bool) -> None:
        self._core = core
        self._channel = channel
        self._early_events = early_events
        self._programs = InstalledPrograms(core)
        self._file_uploads: dict[str, Assembly] = {}

    @abstractmethod
    def receive(self, message: bytes | str) -> None:
        """See :class:`Dialect`."""

    @abstractmethod
    def lost(self, unsent: list[Output]) -> None:
        """See :class:`Dialect`."""

    @property
    @abstractmethod
    def _username(self) -> str:
        """Whose processes this connection has to do with."""

    def _handle(self, message: Message) -> None:
        kind = message["type"]
        requests.debug("received %s", kind)
        getattr(self, f"_on_{kind}")(message)

    # Questions

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
        """Deal with a query that can't be answered."""

    def _on_list_processes(self, message: Message) -> None:
        entries = [
            {
                "id": process.id,
                "username": process.username,
                "program": process.program_name,
                self.input_field: process.arguments[0],
                "elapsed_secs": process.elapsed_secs,
            }
            for process in self._core.instances(self._username)
        ]
        self._respond(message, True, json.dumps(entries))

    # Programs

    def _on_check_program(self, message: Message) -> None:
        try:
            found = self._programs.exists(message["name"], message["version"])
        except ValueError as error:
            self._respond(message, False, str(error))
        else:
            self._respond(message, True, flag(found))

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
            prints=is_captured,
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
        process_id = canonical(message["process_id"])
        process = self._core.find(process_id or "", self._username)
        if process_id is None:
            self._respond(message, False, "Invalid process_id")
        elif process is None:
            self._respond(message, False, "Process not found")
        else:
            self._attach(message, process)

    def _attach(self, message: Message, process: Instance) -> None:
        if not process.attach(self._channel, lambda: self._respond(message, True, "Process attached")):
            self._respond(message, False, "Cannot attach: already attached")

    def _on_terminate_process(self, message: Message) -> None:
        process_id = canonical(message["process_id"])
        process = self._core.find(process_id or "", self._username)
        if process_id is None:
            self._respond(message, False, "Invalid process ID")
        elif process is None:
            self._respond(message, False, "Process not found")
        else:
            self._core.terminate(process)
            self._respond(message, True, "Process terminated")

    def _on_signal_process(self, message: Message) -> None:
        process = self._find_attached(message)
        if process is not None:
            process.mailbox.put_message(message["message"])

    def _on_transfer_file(self, message: Message) -> None:
        process = self._find_attached(message)
        if process is None:
            return
        file_hash = message["file_hash"]
        upload = self._file_uploads.setdefault(file_hash, Assembly(file_hash, "File"))
        try:
            file = upload.add(message["chunk_index"], message["total_chunks"], message["chunk_data"])
        except BadChunkError:
            del self._file_uploads[file_hash]
            return
        if file is not None:
            del self._file_uploads[file_hash]
            process.mailbox.offer_blob(file, BLOB_PATIENCE)

    def _find_attached(self, message: Message) -> Instance | None:
        return self._core.find_attached(canonical(message["process_id"]) or "", self._channel)

    # Answers

    def _respond(self, request: Message, ok: bool, result: str) -> None:
        self._channel.answer(pack({"type": "response", "corr_id": request["corr_id"], "ok": ok, "result": result}))


def encode_output(output: Output) -> Iterator[bytes]:
    """Yield the messages that tell of an output."""
    process_id, event, data = output.instance.id, output.event, output.data
    if isinstance(data, bytes):
        file_hash, name = blake3(data).hexdigest(), getattr(data, "name", None)
        for index, total, chunk in cut(data):
            yield pack(
                {
                    "type": "file",
                    "process_id": process_id,
                    "file_hash": file_hash,
                    "chunk_index": index,
                    "total_chunks": total,
                    "chunk_data": chunk,
                    "name": name,
                }
            )
        return
    value = _ABORTED if event is Event.Aborted else data
    kind = _EVENTS.get(event, "error")
    yield pack({"type": "process_event", "process_id": process_id, "event": kind, "value": value})
