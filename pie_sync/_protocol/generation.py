"""What both generations of the protocol have in common: the same requests under different names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Union

from ..events import Event
from .messages import BlobChunk, Decoder, decode, optional, pack, pack_chunk_head, pack_id, typed

if TYPE_CHECKING:
    from .messages import Decoded

__all__ = ["AUTHENTICATION_DISABLED", "Generation", "LaunchEncoder", "Names", "chunk_decoder"]

#: The result of identification when the server takes everybody at their word.
AUTHENTICATION_DISABLED = "Authenticated (Engine disabled authentication)"

#: Looked up once.
_MESSAGE = Event.Message

#: The digits of a BLAKE3 hash. The hash of a blob is kept while the blob comes in, so its length counts.
_HASH_LENGTH = 64


#: Encodes a launch, from its correlation id and its arguments. For one thread. Raises TypeError and PieValueError
#: for arguments that can't be sent to this server.
LaunchEncoder = Callable[[int, Union[Sequence[str], Mapping[str, Any]]], bytes]


class Names(NamedTuple):
    """The names that one generation gives to requests and fields."""

    identify: str
    prove: str
    internal: str
    attach: str
    list: str
    terminate: str
    signal: str
    blob_chunk: str
    instance_id: str
    blob_hash: str


class Generation:
    """Encodes requests and decodes what the server says, in one generation of the protocol. Stateless.

    A subclass has the tables of its generation, and encodes the requests that only it has.
    """

    #: What users call the generation.
    name: str

    names: Names

    #: The types of messages that answer a launch, an attach and a list.
    launch_answer: str
    attach_answer: str
    list_answer: str

    #: Whether the server confirms the blobs that it gets.
    confirms_blobs: bool

    #: How the server refuses to attach to an instance that is attached already, and to one that is not there.
    already_attached: str
    not_found: str

    #: Whether such a refusal does no harm. (Pie 0.5 ends an instance of which it refused to attach a second time.)
    refuses_attach_without_harm: bool

    #: Whether its servers leave Nagle's algorithm on: then two writes in a row take 40 ms, unless they get quick
    #: acknowledgements (measured: a launch with its end in 44 ms; in 1.5 ms with them).
    writes_with_delay: bool

    #: What makes something of each type of message.
    decoders: dict[str, Decoder]

    #: The messages of events up to their texts, around the id of the instance (see :func:`around_id`). Not the
    #: terminal ones: there is only one of them.
    prefixes: dict[Event, tuple[bytes, bytes]]

    #: That of messages: the hash of an event takes longer than all the rest of :meth:`before_text`.
    message_prefix: tuple[bytes, bytes]

    # --- requests ---------------------------------------------------------------------------------------

    def identify(self, corr_id: int, username: str) -> bytes:
        """Encode the name under which the server knows the user."""
        return pack({"type": self.names.identify, "corr_id": corr_id, "username": username})

    def prove(self, corr_id: int, signature: str) -> bytes:
        """Encode the answer to a challenge: a signature in base64."""
        return pack({"type": self.names.prove, "corr_id": corr_id, "signature": signature})

    def authenticate_by_token(self, corr_id: int, token: str) -> bytes:
        """Encode the token that a server shares with its own parts."""
        return pack({"type": self.names.internal, "corr_id": corr_id, "token": token})

    def ping(self, corr_id: int) -> bytes:
        """Encode a request for an answer."""
        return pack({"type": "ping", "corr_id": corr_id})

    def farewell(self, corr_id: int, *, is_authenticated: bool) -> bytes:
        """Encode a request that has to go right before the close frame; nothing if none has to."""
        return b""

    def query(self, corr_id: int, subject: str, record: str) -> bytes:
        """Encode a named query."""
        return pack({"type": "query", "corr_id": corr_id, "subject": subject, "record": record})

    def launch_encoder(self, program_hash: str | None, name: str) -> LaunchEncoder:
        """Return what encodes many attached launches of one program, as ``launch`` and its sibling do.

        Args:
            program_hash: of an uploaded program; None for one of the registry.
            name: of the program.
        """
        raise NotImplementedError

    def attach(self, corr_id: int, instance_id: str) -> bytes:
        """Encode a request to attach to an instance."""
        return pack({"type": self.names.attach, "corr_id": corr_id, self.names.instance_id: instance_id})

    def list(self, corr_id: int) -> bytes:
        """Encode a request for the list of instances."""
        return pack({"type": self.names.list, "corr_id": corr_id})

    def terminate(self, corr_id: int, instance_id: str) -> bytes:
        """Encode a request to terminate an instance."""
        return pack({"type": self.names.terminate, "corr_id": corr_id, self.names.instance_id: instance_id})

    def signal(self, instance_id: str, message: str) -> bytes:
        """Encode a message to an instance. It is not answered."""
        return pack({"type": self.names.signal, self.names.instance_id: instance_id, "message": message})

    def blob_chunk(
        self, corr_id: int, instance_id: str, blob_hash: str, index: int, total: int, size: int
    ) -> bytes:
        """Encode the head of one chunk of a blob; its ``size`` bytes follow.

        There is a correlation id in it only where the server confirms blobs.
        """
        message: dict[str, Any] = {"type": self.names.blob_chunk}
        if self.confirms_blobs:
            message["corr_id"] = corr_id
        message[self.names.instance_id] = instance_id
        message[self.names.blob_hash] = blob_hash
        message["chunk_index"] = index
        message["total_chunks"] = total
        return pack_chunk_head(message, size)

    # --- what the server says ---------------------------------------------------------------------------

    def decode(self, payload: Any) -> Decoded:
        """Decode one binary message; see :func:`messages.decode`."""
        return decode(self.decoders, payload)

    def before_text(self, instance_id: str, event: Event) -> bytes | None:
        """Return how servers begin the message of an event; see :class:`PrefixCache`."""
        around = self.message_prefix if event is _MESSAGE else self.prefixes.get(event)
        return None if around is None else pack_id(instance_id).join(around)


def chunk_decoder(names: Names) -> Decoder:
    """Return what makes a chunk of a blob of a message with these names."""

    def decode_chunk(message: dict[str, Any]) -> BlobChunk:
        blob_hash: str = typed(message, names.blob_hash, str)
        data: bytes | memoryview = message["chunk_data"]  # a view if the bytes are many
        if len(blob_hash) != _HASH_LENGTH or type(data) not in (bytes, memoryview):
            raise TypeError
        return BlobChunk(
            typed(message, names.instance_id, str),
            blob_hash,
            typed(message, "chunk_index", int),
            typed(message, "total_chunks", int),
            data,
            optional(message, "name", str),
        )

    return decode_chunk
