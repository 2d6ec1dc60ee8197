"""Payloads cut into chunks: put together on their way in, cut on their way out."""

from __future__ import annotations

from collections.abc import Iterator

from blake3 import blake3

__all__ = ["Assembly", "BadChunkError", "cut"]

CHUNK_SIZE = 256 * 1024


class BadChunkError(ValueError):
    """A chunk does not fit; its text says why. The payload is lost."""


class Assembly:
    """A payload that is being received. It is held in memory, whatever its size.

    Args:
        payload_hash: what the whole must hash to.
        what: what it is, for error messages.
    """

    def __init__(self, payload_hash: str, what: str) -> None:
        self._hash = payload_hash
        self._what = what
        self._total_chunks = 0
        self._next_index = 0
        self._payload = bytearray()

    def add(self, chunk_index: int, total_chunks: int, data: bytes) -> bytes | None:
        """Take a chunk.

        Returns:
            The whole payload after the last chunk, None before.

        Raises:
            BadChunkError: the chunk is too large or not the next one, or the whole does not match its hash.
        """
        if len(data) > CHUNK_SIZE:
            raise BadChunkError(f"Chunk of {len(data)} bytes exceeds the limit of {CHUNK_SIZE}")
        if self._next_index == 0:
            self._begin(chunk_index, total_chunks)
        if total_chunks != self._total_chunks:
            raise BadChunkError(f"Chunk count mismatch: expected {self._total_chunks}, got {total_chunks}")
        if chunk_index != self._next_index:
            raise BadChunkError(f"Out-of-order chunk: expected {self._next_index}, got {chunk_index}")
        self._payload += data
        self._next_index += 1
        if self._next_index < self._total_chunks:
            return None
        found = blake3(self._payload).hexdigest()
        if found != self._hash:
            raise BadChunkError(f"{self._what} hash mismatch: declared {self._hash}, uploaded {found}")
        return bytes(self._payload)

    def _begin(self, chunk_index: int, total_chunks: int) -> None:
        if chunk_index != 0:
            raise BadChunkError("First chunk index must be 0")
        if total_chunks < 1:
            raise BadChunkError("Upload must have at least one chunk")
        self._total_chunks = total_chunks


def cut(payload: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (chunk index, number of chunks, chunk) for each chunk; nothing for an empty payload."""
    total = -(-len(payload) // CHUNK_SIZE)
    for index in range(total):
        yield index, total, payload[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE]
