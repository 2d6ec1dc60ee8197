"""The instance protocol: Pie up to 0.2, the API of the client documentation.

It comes in two variants, which name a program by its hash or by its manifest. Servers ignore the fields that
they don't know, so the messages made here carry both and serve both.
"""

from __future__ import annotations

from typing import Any, Callable

import msgpack

from ..events import Event, InstanceInfo
from .messages import Answer, BadMessage, BlobChunk, Decoded, InstanceList, Notice, pack, pack_chunk_head

__all__ = ["InstanceProtocol", "content_addressed_name"]

_EVENTS = {event.value: event for event in Event if event.value <= Event.OutOfResources.value}


def content_addressed_name(program_hash: str) -> str:
    """Return the name under which a program without a manifest is known to servers that want one."""
    return f"pie-sync/{program_hash}@1.0.0"


def _manifest(program_hash: str) -> str:
    name, version = content_addressed_name(program_hash).split("@")
    return f'[package]\nname = "{name}"\nversion = "{version}"\n'


class InstanceProtocol:
    """Encodes requests and decodes what the server says. Stateless."""

    name = "instance"

    #: What the result of identification says when the server takes everybody at his word.
    AUTHENTICATION_DISABLED = "Authenticated (Engine disabled authentication)"

    #: What a server says to a second authentication on the same connection.
    ALREADY_AUTHENTICATED = "Already authenticated"

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

    def program_exists(self, corr_id: int, program_hash: str) -> bytes:
        """Ask a server of the variant by hash for a program."""
        return self.query(corr_id, "program_exists", program_hash)

    def named_program_exists(self, corr_id: int, program_hash: str) -> bytes:
        """Ask a server of the variant by name for the same program."""
        return self.query(corr_id, "program_exists", content_addressed_name(program_hash))

    def program_chunk(self, corr_id: int, program_hash: str, index: int, total: int, size: int) -> bytes:
        """Return the head of one chunk of a program; its ``size`` bytes follow."""
        return pack_chunk_head(
            {
                "type": "upload_program",
                "corr_id": corr_id,
                "program_hash": program_hash,
                "manifest": _manifest(program_hash),
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

    def launch(self, corr_id: int, program_hash: str, arguments: list[str], detached: bool) -> bytes:
        """Launch an uploaded program."""
        return pack(
            {
                "type": "launch_instance",
                "corr_id": corr_id,
                "program_hash": program_hash,
                "inferlet": content_addressed_name(program_hash),
                "arguments": arguments,
                "detached": detached,
            }
        )

    def launch_from_registry(self, corr_id: int, name: str, arguments: list[str], detached: bool) -> bytes:
        """Launch a program of the registry."""
        return pack(
            {
                "type": "launch_instance_from_registry",
                "corr_id": corr_id,
                "inferlet": name,
                "arguments": arguments,
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
        """Decode one binary message, given as a bytes-like object.

        Raises:
            BadMessage: it can't be understood. It may still say whom it concerns.
        """
        try:
            message = msgpack.unpackb(payload, raw=False)
        except Exception as error:  # msgpack raises half a dozen kinds, ValueError and RecursionError among them
            raise BadMessage(f"a message of {len(payload)} bytes that is not MessagePack: {error}") from error
        try:
            return _DECODERS[message["type"]](message)
        except (KeyError, TypeError, IndexError):
            raise _explain(message) from None


def _event(message: dict[str, Any]) -> Decoded:
    text = message["message"]
    if type(text) is not str:
        raise TypeError
    return message["instance_id"], (_EVENTS[message["event"]], text)


def _output(message: dict[str, Any]) -> Decoded:
    output = message["output"]
    if "Stdout" in output:
        event, text = Event.Stdout, output["Stdout"]
    else:
        event, text = Event.Stderr, output["Stderr"]
    if type(text) is not str:
        raise TypeError
    return message["instance_id"], (event, text)


def _typed(message: dict[str, Any], field: str, kind: type) -> Any:
    value = message[field]
    if type(value) is not kind:
        raise TypeError
    return value


def _response(message: dict[str, Any]) -> Decoded:
    return Answer(
        _typed(message, "corr_id", int),
        "response",
        _typed(message, "successful", bool),
        _typed(message, "result", str),
    )


def _instance_result(message: dict[str, Any]) -> Decoded:
    return Answer(
        _typed(message, "corr_id", int),
        message["type"],
        _typed(message, "successful", bool),
        _typed(message, "message", str),
    )


def _challenge(message: dict[str, Any]) -> Decoded:
    return Answer(_typed(message, "corr_id", int), "challenge", True, _typed(message, "challenge", str))


def _live_instances(message: dict[str, Any]) -> Decoded:
    instances = tuple(_instance_info(fields) for fields in _typed(message, "instances", list))
    return InstanceList(_typed(message, "corr_id", int), instances)


def _instance_info(fields: Any) -> InstanceInfo:
    if not isinstance(fields, dict):
        raise TypeError
    arguments = _optional(fields, "arguments", list) or ()
    return InstanceInfo(
        id=_typed(fields, "id", str),
        arguments=tuple(str(argument) for argument in arguments),
        status=_optional(fields, "status", str),
        username=_optional(fields, "username", str),
        elapsed_secs=_optional(fields, "elapsed_secs", (int, float)),
        kv_pages_used=_optional(fields, "kv_pages_used", int),
    )


def _optional(fields: dict[str, Any], field: str, kinds: type | tuple[type, ...]) -> Any:
    value = fields.get(field)
    if value is not None and not isinstance(value, kinds):
        raise TypeError
    return value


def _blob_chunk(message: dict[str, Any]) -> Decoded:
    return BlobChunk(
        _typed(message, "instance_id", str),
        _typed(message, "blob_hash", str),
        _typed(message, "chunk_index", int),
        _typed(message, "total_chunks", int),
        _typed(message, "chunk_data", bytes),
    )


def _server_event(message: dict[str, Any]) -> Decoded:
    return Notice(_typed(message, "message", str))


_DECODERS: dict[str, Callable[[dict[str, Any]], Decoded]] = {
    "response": _response,
    "challenge": _challenge,
    "instance_launch_result": _instance_result,
    "instance_attach_result": _instance_result,
    "live_instances": _live_instances,
    "instance_event": _event,
    "streaming_output": _output,
    "download_blob": _blob_chunk,
    "server_event": _server_event,
}


def _explain(message: Any) -> BadMessage:
    """Say what is wrong with a message, without repeating its contents: they may be long, or private."""
    if not isinstance(message, dict):
        return BadMessage(f"a message that is a {type(message).__name__}, not a map")
    kind = message.get("type")
    if not isinstance(kind, str):
        return BadMessage("a message without a type", message)
    if kind not in _DECODERS:
        return BadMessage(f"a message of the unknown type {kind[:40]!r}", message)
    fields = ", ".join(f"{str(name)[:40]}: {type(value).__name__}" for name, value in list(message.items())[:12])
    return BadMessage(f"a {kind!r} message with a missing or wrong field ({fields})", message)
