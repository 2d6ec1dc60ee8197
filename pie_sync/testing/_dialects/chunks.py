"""Payloads in chunks: assembles uploads, and splits downloads."""

from __future__ import annotations

from collections.abc import Iterator

from blake3 import blake3

__all__ = ["BadChunkError", "ChunkAssembler", "OldChunkAssembler", "split"]

CHUNK_SIZE = 256 * 1024


class BadChunkError(ValueError):
    """A chunk is invalid, for the reason in the text. The payload is lost."""


class ChunkAssembler:
    """Assembles the chunks of one payload, in memory, as Pie 0.5 does.

    Args:
        payload_hash: the expected BLAKE3 hash of the payload, in hexadecimal; None for any.
        what: the kind of payload, for error messages.
    """

    def __init__(self, payload_hash: str | None, what: str) -> None:
        self._hash = payload_hash
        self._what = what
        self._total_chunks = 0
        self._next_index = 0
        self._payload = bytearray()

    def add(self, chunk_index: int, total_chunks: int, data: bytes) -> bytes | None:
        """Append a chunk.

        Returns:
            The payload after the last chunk, None before.

        Raises:
            BadChunkError: the chunk is too large or not the next one, or the payload does not match its hash.
        """
        if len(data) > CHUNK_SIZE:
            raise BadChunkError(self._too_large(len(data)))
        if self._next_index == 0:
            self._begin(chunk_index, total_chunks)
        if total_chunks != self._total_chunks:
            raise BadChunkError(f"Chunk count mismatch: expected {self._total_chunks}, got {total_chunks}")
        if chunk_index != self._next_index:
            raise BadChunkError(f"Out-of-order chunk: expected {self._next_index}, got {chunk_index}")
        self._payload += data
        self._next_index += 1
        if self._next_index != self._total_chunks:
            return None
        found = blake3(self._payload).hexdigest()
        if self._hash not in (None, found):
            raise BadChunkError(self._mismatch(found))
        return bytes(self._payload)

    def _begin(self, chunk_index: int, total_chunks: int) -> None:
        if chunk_index != 0:
            raise BadChunkError("First chunk index must be 0")
        if total_chunks < 1:
            raise BadChunkError("Upload must have at least one chunk")
        self._total_chunks = total_chunks

    def _too_large(self, size: int) -> str:
        return f"Chunk of {size} bytes exceeds the limit of {CHUNK_SIZE}"

    def _mismatch(self, found: str) -> str:
        return f"{self._what} hash mismatch: declared {self._hash}, uploaded {found}"


class OldChunkAssembler(ChunkAssembler):
    """The same up to Pie 0.4: other texts, and an upload of no chunks, which nothing but an error can end."""

    def _begin(self, chunk_index: int, total_chunks: int) -> None:
        if chunk_index != 0:
            raise BadChunkError("First chunk index must be 0")
        self._total_chunks = total_chunks

    def _too_large(self, size: int) -> str:
        return f"Chunk size {size} exceeds limit {CHUNK_SIZE}"

    def _mismatch(self, found: str) -> str:
        return f"Hash mismatch: expected {self._hash}, got {found}"


def split(payload: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (chunk index, number of chunks, chunk) for each chunk; nothing for an empty payload."""
    total = -(-len(payload) // CHUNK_SIZE)
    for index in range(total):
        yield index, total, payload[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE]
