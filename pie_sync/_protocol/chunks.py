"""Chunks: how the protocol cuts a program or a blob into pieces."""

from __future__ import annotations

__all__ = ["CHUNK_SIZE", "count_chunks"]

#: The most bytes that one chunk may carry (protocol, common rules).
CHUNK_SIZE = 256 * 1024


def count_chunks(size: int) -> int:
    """Return how many chunks ``size`` bytes take: at least one (protocol, common rules)."""
    return max(1, -(-size // CHUNK_SIZE))
