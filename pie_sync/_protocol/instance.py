"""The instance protocol: Pie up to 0.2, the API of the client documentation.

It comes in two variants, which name a program by its hash or by its manifest. Servers ignore the fields that
they don't know, so the messages made here carry both and serve both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..events import Event, InstanceInfo
from . import arguments
from .messages import (
    Answer,
    BlobChunk,
    Decoded,
    Decoder,
    InstanceList,
    Notice,
    answer_decoder,
    around_id,
    blob_hash,
    chunk_data,
    decode,
    optional,
    pack,
    pack_chunk_head,
    typed,
)
from .program_names import CONTENT_VERSION, ProgramName, manifest_of

__all__ = ["DECODERS", "InstanceProtocol"]

_EVENTS = {event.value: event for event in Event if event.value <= Event.OutOfResources.value}

#: The messages of events up to their texts, around the id of the instance. Not of the end: there's only one.
_AROUND_ID = {
    Event.Message: around_id(
        {"type": "instance_event", "instance_id": "", "event": Event.Message.value, "message": ""}, "instance_id"
    ),
    Event.Stdout: around_id(
        {"type": "streaming_output", "instance_id": "", "output": {"Stdout": ""}}, "instance_id"
    ),
    Event.Stderr: around_id(
        {"type": "streaming_output", "instance_id": "", "output": {"Stderr": ""}}, "instance_id"
    ),
}


class InstanceProtocol:
    """Encodes requests and decodes what the server says. Stateless."""

    name = "instance"

    #: The types of messages that answer a launch, an attach and a list.
    launch_answer = "instance_launch_result"
    attach_answer = "instance_attach_result"
    list_answer = "live_instances"

    #: Whether the server confirms the blobs that it gets.
    confirms_blobs = True

    #: What the result of identification says when the server takes everybody at his word.
    AUTHENTICATION_DISABLED = "Authenticated (Engine disabled authentication)"

    # --- requests ---------------------------------------------------------------------------------------

    def identify(self, corr_id: int, username: str) -> bytes:
        """Say who we are."""
        return pack({"type": "identification", "corr_id": corr_id, "username": username})

    def prove(self, corr_id: int, signature: str) -> bytes:
        """Answer the challenge, with a signature in base64."""
        return pack({"type": "signature", "corr_id": corr_id, "signature": signature})

    def authenticate_by_token(self, corr_id: int, token: str) -> bytes:
        """Authenticate as a part of the server itself."""
        return pack({"type": "internal_authenticate", "corr_id": corr_id, "token": token})

    def ping(self, corr_id: int) -> bytes:
        """Ask for an answer."""
        return pack({"type": "ping", "corr_id": corr_id})

    def query(self, corr_id: int, subject: str, record: str) -> bytes:
        """Ask for something by its name."""
        return pack({"type": "query", "corr_id": corr_id, "subject": subject, "record": record})

    def content_name(self, program_hash: str) -> ProgramName:
        """Return the name under which a program without a manifest is known to servers that want one."""
        return ProgramName(f"pie-sync/{program_hash}", CONTENT_VERSION)

    def program_exists(self, corr_id: int, program_hash: str) -> bytes:
        """Ask a server of the variant by hash for a program."""
        return self.query(corr_id, "program_exists", program_hash)

    def named_program_exists(self, corr_id: int, program: ProgramName) -> bytes:
        """Ask a server of the variant by name for a program."""
        return self.query(corr_id, "program_exists", str(program))

    def program_chunk(
        self, corr_id: int, program_hash: str, index: int, total: int, size: int, *, manifest: str | None = None
    ) -> bytes:
        """Return the head of one chunk of a program; its ``size`` bytes follow.

        Args:
            corr_id: the correlation id, the same for all chunks.
            program_hash: of the whole program.
            index: which chunk.
            total: how many there are.
            size: how many bytes follow.
            manifest: TOML with the program's name and version; None makes one of its hash.
        """
        return pack_chunk_head(
            {
                "type": "upload_program",
                "corr_id": corr_id,
                "program_hash": program_hash,
                "manifest": manifest_of(self.content_name(program_hash)) if manifest is None else manifest,
                "chunk_index": index,
                "total_chunks": total,
            },
            size,
        )

    def blob_chunk(
        self, corr_id: int, instance_id: str, blob_hash: str, index: int, total: int, size: int
    ) -> bytes:
        """Return the head of one chunk of a blob; its ``size`` bytes follow."""
        return pack_chunk_head(
            {
                "type": "upload_blob",
                "corr_id": corr_id,
                "instance_id": instance_id,
                "blob_hash": blob_hash,
                "chunk_index": index,
                "total_chunks": total,
            },
            size,
        )

    def launch(
        self,
        corr_id: int,
        program_hash: str,
        program: ProgramName,
        args: Sequence[str] | Mapping[str, Any],
        detached: bool,
    ) -> bytes:
        """Launch an uploaded program: by its hash or by its name, whichever the server understands."""
        return pack(
            {
                "type": "launch_instance",
                "corr_id": corr_id,
                "program_hash": program_hash,
                "inferlet": str(program),
                "arguments": arguments.as_strings(args),
                "detached": detached,
            }
        )

    def launch_from_registry(
        self, corr_id: int, name: str, args: Sequence[str] | Mapping[str, Any], detached: bool
    ) -> bytes:
        """Launch a program of the registry."""
        return pack(
            {
                "type": "launch_instance_from_registry",
                "corr_id": corr_id,
                "inferlet": name,
                "arguments": arguments.as_strings(args),
                "detached": detached,
            }
        )

    def attach(self, corr_id: int, instance_id: str) -> bytes:
        """Attach to an instance."""
        return pack({"type": "attach_instance", "corr_id": corr_id, "instance_id": instance_id})

    def list(self, corr_id: int) -> bytes:
        """Ask for the list of the user's instances."""
        return pack({"type": "list_instances", "corr_id": corr_id})

    def terminate(self, corr_id: int, instance_id: str) -> bytes:
        """Terminate an instance."""
        return pack({"type": "terminate_instance", "corr_id": corr_id, "instance_id": instance_id})

    def signal(self, instance_id: str, message: str) -> bytes:
        """Send a message to an instance. It is not answered."""
        return pack({"type": "signal_instance", "instance_id": instance_id, "message": message})

    # --- what the server says ---------------------------------------------------------------------------

    def decode(self, payload: Any) -> Decoded:
        """Decode one binary message; see :func:`messages.decode`."""
        return decode(DECODERS, payload)

    def before_text(self, instance_id: str, event: Event) -> bytes | None:
        """Return how servers begin the message of an event; see :class:`Repeats`."""
        around = _AROUND_ID.get(event)
        return None if around is None else pack(instance_id).join(around)

    def decode_text(self, text: str) -> Notice:
        """Decode one text message: servers of this generation send none."""
        return Notice(f"(as text) {text}")

    def instances(self, answer: Answer | InstanceList) -> tuple[InstanceInfo, ...]:
        """Return what a granted request for the list says."""
        assert isinstance(answer, InstanceList)
        return answer.instances


def _event(message: dict[str, Any]) -> Decoded:
    text = message["message"]
    if type(text) is not str:
        raise TypeError
    return message["instance_id"], _EVENTS[message["event"]], text


def _output(message: dict[str, Any]) -> Decoded:
    output = message["output"]
    if "Stdout" in output:
        event, text = Event.Stdout, output["Stdout"]
    else:
        event, text = Event.Stderr, output["Stderr"]
    if type(text) is not str:
        raise TypeError
    return message["instance_id"], event, text


def _challenge(message: dict[str, Any]) -> Decoded:
    return Answer(typed(message, "corr_id", int), "challenge", True, typed(message, "challenge", str))


def _live_instances(message: dict[str, Any]) -> Decoded:
    instances = tuple(_instance_info(fields) for fields in typed(message, "instances", list))
    return InstanceList(typed(message, "corr_id", int), instances)


def _instance_info(fields: Any) -> InstanceInfo:
    if not isinstance(fields, dict):
        raise TypeError
    arguments = optional(fields, "arguments", list) or ()
    return InstanceInfo(
        id=typed(fields, "id", str),
        arguments=tuple(_text(argument) for argument in arguments),
        status=optional(fields, "status", str),
        username=optional(fields, "username", str),
        elapsed_secs=optional(fields, "elapsed_secs", (int, float)),
        kv_pages_used=optional(fields, "kv_pages_used", int),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _blob_chunk(message: dict[str, Any]) -> Decoded:
    return BlobChunk(
        typed(message, "instance_id", str),
        blob_hash(message, "blob_hash"),
        typed(message, "chunk_index", int),
        typed(message, "total_chunks", int),
        chunk_data(message),
    )


def _server_event(message: dict[str, Any]) -> Decoded:
    return Notice(typed(message, "message", str))


DECODERS: dict[str, Decoder] = {
    "response": answer_decoder("successful", "result"),
    "challenge": _challenge,
    "instance_launch_result": answer_decoder("successful", "message"),
    "instance_attach_result": answer_decoder("successful", "message"),
    "live_instances": _live_instances,
    "instance_event": _event,
    "streaming_output": _output,
    "download_blob": _blob_chunk,
    "server_event": _server_event,
}
