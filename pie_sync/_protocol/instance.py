"""The instance protocol: Pie up to 0.2, the API of the client documentation.

It comes in two variants, which name a program by its hash or by its manifest. Servers ignore the fields that
they don't know, so the messages made here carry both and serve both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..events import Event, InstanceInfo
from . import arguments
from .generation import Generation, LaunchEncoder, Names, chunk_decoder
from .messages import (
    Answer,
    Decoded,
    Decoder,
    InstanceList,
    MessageTemplate,
    Notice,
    answer_decoder,
    around_id,
    optional,
    pack,
    pack_chunk_head,
    typed,
)
from .program_names import CONTENT_VERSION, ProgramName, manifest_of

__all__ = ["DECODERS", "InstanceProtocol"]

_EVENTS = {event.value: event for event in Event if event.value <= Event.OutOfResources.value}

#: The messages of events up to their texts, around the id of the instance. Not of the end: there's only one.
_PREFIXES = {
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


#: What this generation calls things.
NAMES = Names(
    identify="identification",
    prove="signature",
    internal="internal_authenticate",
    attach="attach_instance",
    list="list_instances",
    terminate="terminate_instance",
    signal="signal_instance",
    blob_chunk="upload_blob",
    instance_id="instance_id",
    blob_hash="blob_hash",
)


class InstanceProtocol(Generation):
    """Encodes requests and decodes what the server says. Stateless."""

    name = "instance"
    names = NAMES
    launch_answer = "instance_launch_result"
    attach_answer = "instance_attach_result"
    list_answer = "live_instances"
    confirms_blobs = True
    already_attached = "Instance already attached"
    not_found = "Instance not found"
    refuses_attach_without_harm = True
    writes_with_delay = True
    prefixes = _PREFIXES
    message_prefix = _PREFIXES[Event.Message]

    # --- requests ---------------------------------------------------------------------------------------

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

    def launch(
        self,
        corr_id: int,
        program_hash: str,
        program: ProgramName,
        args: Sequence[str] | Mapping[str, Any],
        detached: bool,
    ) -> bytes:
        """Launch an uploaded program: by its hash or by its name, whichever the server understands."""
        return pack(_launch(corr_id, program_hash, str(program), arguments.as_strings(args), detached))

    def launch_from_registry(
        self, corr_id: int, name: str, args: Sequence[str] | Mapping[str, Any], detached: bool
    ) -> bytes:
        """Launch a program of the registry."""
        return pack(_launch(corr_id, None, name, arguments.as_strings(args), detached))

    def launch_encoder(self, program_hash: str | None, name: str) -> LaunchEncoder:
        """See :meth:`Generation.launch_encoder`."""
        encode = MessageTemplate(_launch(0, program_hash, name, [], False), "arguments").encode
        return lambda corr_id, args: encode(corr_id, arguments.as_strings(args))

    # --- what the server says ---------------------------------------------------------------------------

    def decode_text(self, text: str) -> Notice:
        """Decode one text message: servers of this generation send none."""
        return Notice(f"(as text) {text}")

    def instances(self, answer: Answer | InstanceList) -> tuple[InstanceInfo, ...]:
        """Return what a granted request for the list says."""
        assert isinstance(answer, InstanceList)
        return answer.instances


def _launch(
    corr_id: int, program_hash: str | None, name: str, args: Sequence[str], detached: bool
) -> dict[str, Any]:
    """Return the message that launches a program: one of the registry if there is no hash."""
    if program_hash is None:
        return {
            "type": "launch_instance_from_registry",
            "corr_id": corr_id,
            "inferlet": name,
            "arguments": args,
            "detached": detached,
        }
    return {
        "type": "launch_instance",
        "corr_id": corr_id,
        "program_hash": program_hash,
        "inferlet": name,
        "arguments": args,
        "detached": detached,
    }


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
    "download_blob": chunk_decoder(NAMES),
    "server_event": _server_event,
}

InstanceProtocol.decoders = DECODERS
