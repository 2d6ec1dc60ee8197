"""What a server can say, whichever generation of the protocol it says it in."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, Union

import msgpack

from ..errors import PieValueError

if TYPE_CHECKING:
    from ..events import Event, InstanceInfo

__all__ = [
    "Abort",
    "Answer",
    "BadMessage",
    "BlobChunk",
    "Decoded",
    "Decoder",
    "InstanceList",
    "MessageTemplate",
    "Notice",
    "Other",
    "Refusal",
    "StreamEvent",
    "answer_decoder",
    "around_id",
    "decode",
    "optional",
    "pack",
    "pack_chunk_head",
    "pack_id",
    "too_large",
    "typed",
]


@dataclass
class Answer:
    """The answer to one request. Not frozen: that takes 0.4 us more to make, while somebody waits for it.

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
    """One chunk of a blob that an instance sends.

    ``data`` may be a view into the message: it lasts no longer than that. See :meth:`kept`.
    """

    instance_id: str
    blob_hash: str
    index: int
    total: int
    data: bytes | memoryview
    name: str | None = None

    def kept(self) -> BlobChunk:
        """Return the same chunk, with a copy of its data that lasts."""
        return replace(self, data=bytes(self.data))


@dataclass(frozen=True)
class Notice:
    """Something that the server tells everybody."""

    text: str


@dataclass(frozen=True)
class Refusal:
    """The server could not understand one of our messages, and does not say which."""

    text: str


@dataclass(frozen=True)
class Abort:
    """No events will come any more, though the connection is still there."""

    text: str


#: An event of an instance: its id, the kind of the event, and its text. Not a dataclass: there are hundreds of
#: thousands a second of these, and a tuple takes 0.03 us to make where a frozen dataclass takes 0.5 us.
StreamEvent = tuple[str, "Event", str]

#: Everything else.
Other = Union[Answer, InstanceList, BlobChunk, Notice, Refusal, Abort]

Decoded = Union[StreamEvent, Other]

#: Makes something of a message's fields. Raises KeyError, TypeError or IndexError if they are wrong.
Decoder = Callable[[dict[str, Any]], Decoded]


#: Messages up to this size are unpacked whatever is in them.
_SMALL = 64 * 1024

#: How many things a larger message may consist of. A list of 50 000 instances is one of the size.
_MAX_THINGS = 500_000


#: How many bytes of a message may come before its chunk: more than all fields of a server take.
_CHUNK_HEAD = 1024

#: In MessagePack: the name of the field with "bin 32" behind it, and "bin 8" of no bytes.
_CHUNK_DATA = b"\xaachunk_data\xc6"
_NO_BYTES = b"\xc4\x00"


#: In MessagePack: the id of an instance, a UUID.
_ID = re.compile(rb"(?:instance|process)_id\xd9\x24([0-9a-f-]{36})")


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


def decode(decoders: dict[str, Decoder], payload: Any) -> Decoded:
    """Decode one binary message, given as a bytes-like object.

    Raises:
        BadMessage: it can't be understood, or there is no memory for it. It may still say whom it concerns.
    """
    try:
        message = msgpack.unpackb(payload) if len(payload) <= _SMALL else _unpack_large(payload)
    except MemoryError:
        raise too_large(payload) from None
    except Exception as error:  # msgpack raises half a dozen kinds, ValueError and RecursionError among them
        raise BadMessage(f"a message of {len(payload)} bytes that is not MessagePack: {error}") from error
    try:
        return decoders[message["type"]](message)
    except (KeyError, TypeError, IndexError, RecursionError):
        raise _explain(decoders, message) from None


def too_large(payload: Any) -> BadMessage:
    """Say that there is no memory to decode a message, and whom it concerns: the id comes before the text."""
    found = _ID.search(bytes(payload[:_CHUNK_HEAD]))
    fields = {"instance_id": found[1].decode()} if found else {}
    return BadMessage(f"a message of {len(payload)} bytes, and there is no memory for it", fields)


def _unpack_large(payload: Any) -> Any:
    """Unpack a message, but not into more than so many things: one byte on the wire can be 64 in memory."""
    message = _unpack_chunk(memoryview(payload))
    if message is not None:
        return message
    count = 0

    def add(container: Any) -> Any:
        nonlocal count
        count += 1 + len(container)
        if count > _MAX_THINGS:
            raise ValueError(f"more than {_MAX_THINGS} things in one message")
        return container

    return msgpack.unpackb(
        payload, raw=False, object_hook=add, list_hook=add, max_array_len=_MAX_THINGS, max_map_len=_MAX_THINGS
    )


def _unpack_chunk(payload: memoryview) -> dict[str, Any] | None:
    """Unpack a message whose last field is a large ``chunk_data``, without copying that. None for any other."""
    end = bytes(payload[:_CHUNK_HEAD]).find(_CHUNK_DATA) + len(_CHUNK_DATA)
    begin = end + 4
    if end < len(_CHUNK_DATA) or int.from_bytes(payload[end:begin], "big") != len(payload) - begin:
        return None
    try:
        # In the place of the data, nothing. So what comes before it is unpacked, and checked, as ever.
        message = msgpack.unpackb(bytes(payload[: end - 1]) + _NO_BYTES, raw=False)
    except Exception:  # it was inside of something else
        return None
    if not isinstance(message, dict) or [*message.items()][-1:] != [("chunk_data", b"")]:
        return None
    message["chunk_data"] = payload[begin:]
    return message


def _explain(decoders: dict[str, Decoder], message: Any) -> BadMessage:
    """Say what is wrong with a message, without repeating its contents: they may be long, or private."""
    if not isinstance(message, dict):
        return BadMessage(f"a message that is a {type(message).__name__}, not a map")
    kind = message.get("type")
    if not isinstance(kind, str):
        return BadMessage("a message without a type", message)
    if kind not in decoders:
        return BadMessage(f"a message of the unknown type {kind[:40]!r}", message)
    fields = ", ".join(f"{str(name)[:40]}: {type(value).__name__}" for name, value in list(message.items())[:12])
    return BadMessage(f"a {kind!r} message with a missing or wrong field ({fields})", message)


def typed(message: dict[str, Any], field: str, kind: type) -> Any:
    """Return a field that must be there and of one type."""
    value = message[field]
    if type(value) is not kind:
        raise TypeError
    return value


def answer_decoder(granted: str, text: str) -> Decoder:
    """Return what makes an answer of a message whose fields have these names."""

    def decode_answer(message: dict[str, Any]) -> Answer:
        corr_id, ok, result = message["corr_id"], message[granted], message[text]
        if type(corr_id) is not int or type(ok) is not bool or type(result) is not str:
            raise TypeError
        return Answer(corr_id, message["type"], ok, result)

    return decode_answer


def optional(message: dict[str, Any], field: str, kinds: type | tuple[type, ...]) -> Any:
    """Return a field that may be missing, or None."""
    value = message.get(field)
    if value is not None and not isinstance(value, kinds):
        raise TypeError
    return value


def pack(message: dict[str, Any] | str) -> bytes:
    """Encode one message, or a text. Bytes travel as msgpack ``bin``, text as ``str`` (protocol, common rules)."""
    try:
        packed: bytes = msgpack.Packer().pack(message)  # packb() does the same with one more step of Python
    except UnicodeEncodeError as error:
        raise _half_a_pair(error) from None
    return packed


def _half_a_pair(error: UnicodeEncodeError) -> PieValueError:
    return PieValueError(f"half a surrogate pair can't be sent: {error.object[error.start]!r} at {error.start}")


def pack_id(instance_id: str) -> bytes:
    """Encode an id as :func:`pack` does; that of a usual length in a third of the time."""
    try:
        data = instance_id.encode()
    except UnicodeEncodeError as error:
        raise _half_a_pair(error) from None
    # MessagePack's "str 8": the byte 0xd9 and the length.
    return b"\xd9%c%b" % (len(data), data) if 32 <= len(data) < 256 else pack(instance_id)


class MessageTemplate:
    """Encodes messages that differ in two fields, the correlation id and a later one, in a third of the time.

    For one thread.

    Args:
        message: the fields. What those two are in it has no meaning.
        field: the name of the other one.
    """

    def __init__(self, message: dict[str, Any], field: str) -> None:
        self._pack: Callable[[Any], bytes] = msgpack.Packer().pack
        pieces = [b""]
        for name, value in message.items():
            pieces[-1] += pack(name)
            if name in ("corr_id", field):
                pieces.append(b"")
            else:
                pieces[-1] += pack(value)
        # A map of up to 15 fields is a byte 0x80 and their number.
        self._before, self._between, self._behind = bytes([0x80 | len(message)]) + pieces[0], *pieces[1:]

    def encode(self, corr_id: int, value: Any) -> bytes:
        """Encode the message with these two values; raises what :func:`pack` does."""
        pack = self._pack
        try:
            return b"%b%b%b%b%b" % (self._before, pack(corr_id), self._between, pack(value), self._behind)
        except UnicodeEncodeError as error:
            raise _half_a_pair(error) from None


def around_id(message: dict[str, Any], field: str) -> tuple[bytes, bytes]:
    """Encode a message up to the text, its last field; return what is before the id in ``field`` and behind it."""
    mark = "the id"
    before, behind = pack({**message, field: mark})[:-1].split(pack(mark))
    return before, behind


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
