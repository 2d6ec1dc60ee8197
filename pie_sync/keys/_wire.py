"""The fields of SSH's messages (RFC 4251, section 5). Pure: bytes in, values out."""

from __future__ import annotations

__all__ = ["WireReader", "pack_string", "pack_uint32"]


class WireReader:
    """Reads one field after the other. A field that ends after the data does is a ``ValueError``.

    paramiko's ``Message`` fills such a field up with zeros, so a message that is cut off would be read as another.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def uint32(self) -> int:
        """Read an unsigned 32-bit integer."""
        return int.from_bytes(self._take(4), "big")

    def string(self) -> bytes:
        """Read a ``string``: its length, then as many bytes."""
        return self._take(self.uint32())

    def mpint(self) -> int:
        """Read an integer of any size."""
        return int.from_bytes(self.string(), "big", signed=True)

    def _take(self, length: int) -> bytes:
        end = self._position + length
        if end > len(self._data):
            raise ValueError(f"a field ends {end - len(self._data)} bytes after the data")
        taken = self._data[self._position : end]
        self._position = end
        return taken


def pack_uint32(number: int) -> bytes:
    """Return an unsigned 32-bit integer as four bytes."""
    return number.to_bytes(4, "big")


def pack_string(data: bytes) -> bytes:
    """Return some bytes with their length before them."""
    return pack_uint32(len(data)) + data
