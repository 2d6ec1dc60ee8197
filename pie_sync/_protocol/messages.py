"""What a server can say, whichever generation of the protocol it says it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import msgpack

if TYPE_CHECKING:
    from ..events import Event, InstanceInfo

__all__ = ["Answer", "BadMessage", "BlobChunk", "Decoded", "InstanceList", "Notice", "StreamEvent", "pack"]


@dataclass(frozen=True)
class Answer:
    """The answer to one request.

    Attributes:
        corr_id: which request.
        kind: the message's type on the wire.
        ok: whether the request was granted.
        text: its result, or the reason of the refusal.
    """

    corr_id: int
    kind: str
    ok: bool
    text: str


@dataclass(frozen=True)
class InstanceList:
    """The answer to a request for the list of instances."""

    corr_id: int
    instances: tuple[InstanceInfo, ...]
    kind: str = "live_instances"


@dataclass(frozen=True)
class BlobChunk:
    """One chunk of a blob that an instance sends."""

    instance_id: str
    blob_hash: str
    index: int
    total: int
    data: bytes
    name: str | None = None


@dataclass(frozen=True)
class Notice:
    """Something that the server tells everybody."""

    text: str


#: An event of an instance: (instance id, (its kind, its text)). Not a dataclass: there are hundreds of
#: thousands a second of these, and a tuple takes 0.03 us to make where a frozen dataclass takes 0.5 us. The
#: inner tuple is what the user gets.
StreamEvent = tuple[str, "tuple[Event, str]"]

Decoded = Union[StreamEvent, Answer, InstanceList, BlobChunk, Notice]


class BadMessage(Exception):  # noqa: N818 - a message, told as an exception
    """A message that can't be understood.

    Attributes:
        corr_id: the request that it was to answer, if that much can be read.
        instance_id: the instance that it concerns, if that much can be read.
    """

    def __init__(self, reason: str, message: Any = None) -> None:
        super().__init__(reason)
        fields = message if isinstance(message, dict) else {}
        corr_id, instance_id = fields.get("corr_id"), fields.get("instance_id", fields.get("process_id"))
        self.corr_id: int | None = corr_id if type(corr_id) is int else None
        self.instance_id: str | None = instance_id if isinstance(instance_id, str) else None


def pack(message: dict[str, Any]) -> bytes:
    """Encode one message. Bytes travel as msgpack ``bin``, text as ``str`` (protocol, common rules)."""
    packed: bytes = msgpack.packb(message, use_bin_type=True)
    return packed


def pack_chunk_head(message: dict[str, Any], size: int) -> bytes:
    """Encode a message whose last field is ``chunk_data``, up to where its ``size`` bytes begin.

    The bytes themselves follow on the wire without having been copied into a message first: a chunk is the
    one big thing that a client sends.
    """
    packer = msgpack.Packer(use_bin_type=True, autoreset=False)
    packer.pack_map_header(len(message) + 1)
    for field, value in message.items():
        packer.pack(field)
        packer.pack(value)
    packer.pack("chunk_data")
    # MessagePack's "bin 32": a byte 0xc6 and the length in four bytes.
    return bytes(packer.bytes()) + b"\xc6" + size.to_bytes(4, "big")
