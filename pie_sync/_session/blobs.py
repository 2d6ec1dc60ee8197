"""Blobs on their way from the server: chunks are put together, within limits, and checked against their hash.

Pure: no sockets, threads or clock.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from blake3 import blake3

from .._protocol.chunks import CHUNK_SIZE
from .._support.large_pages import writable
from ..events import Blob

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["BlobAssembler", "BlobError"]


class BlobError(Exception):
    """A blob that the server sends can't be put together; the text says why."""


class _Download:
    """One blob that is coming in. ``data`` is None once it was given up: the rest of it is ignored.

    The chunks are put together in a BytesIO, which grows without being copied and gives its bytes away without a
    copy. Each chunk is hashed as it comes, while the processor's cache still holds it.

    Args:
        total: how many chunks.
        name: the blob's name, if it has one.
        reserved: how many bytes it may become; room for them is made at once if that pays.
    """

    __slots__ = ("data", "hasher", "name", "next_index", "reserved", "size", "total")

    def __init__(self, total: int, name: str | None, reserved: int = 0) -> None:
        self.total = total
        self.name = name
        self.next_index = 0
        self.size = 0
        self.reserved = reserved
        self.data: io.BytesIO | None = writable(reserved)
        self.hasher = blake3()

    def whole(self) -> bytes:
        """Return what was put together."""
        assert self.data is not None
        self.data.truncate(self.size)
        return self.data.getvalue()


class BlobAssembler:
    """Puts the blobs together that arrive in chunks, for all instances of a client.

    Not thread-safe: only the reader thread uses it.

    Args:
        max_blob_size: the most bytes of one blob, and of all incomplete blobs together.
    """

    #: How many incomplete blobs an instance may have: more than any program needs, few enough to be harmless.
    MAX_INCOMPLETE = 64

    def __init__(self, max_blob_size: int) -> None:
        self._max_blob_size = max_blob_size
        self._downloads: dict[str, dict[str, _Download]] = {}
        self._buffered = 0
        self._reserved = 0

    def add(
        self,
        instance_id: str,
        blob_hash: str,
        index: int,
        total: int,
        data: bytes | memoryview,
        name: str | None = None,
    ) -> Blob | None:
        """Take one chunk. Its data is copied.

        Returns:
            The blob, if this chunk completes it, else None.

        Raises:
            BlobError: the blob is given up: once, at its first bad chunk; later chunks are ignored.
        """
        download = self._downloads.get(instance_id, {}).get(blob_hash)
        given_up = download is not None and download.data is None
        if given_up and index != 0:
            if index >= total - 1:
                self._remove(instance_id, blob_hash)
            return None
        try:
            if download is None or given_up:
                download = self._begin(instance_id, blob_hash, total, name)
            self._append(download, blob_hash, index, total, data)
        except BlobError:
            self._give_up(instance_id, blob_hash, total, last=index >= total - 1)
            raise
        except MemoryError:
            self._give_up(instance_id, blob_hash, total, last=index >= total - 1)
            raise BlobError(f"blob {blob_hash}: there is no memory for it") from None
        if download.next_index < download.total:
            return None
        self._remove(instance_id, blob_hash)
        if download.hasher.hexdigest() != blob_hash:
            raise BlobError(f"blob {blob_hash}: its {download.size} bytes do not match this hash")
        try:
            return Blob(download.whole(), download.name)
        except MemoryError:
            raise BlobError(f"blob {blob_hash}: there is no memory for its {download.size} bytes") from None

    def forget(self, instance_id: str) -> None:
        """Drop what is incomplete of an instance that has ended."""
        if instance_id in self._downloads:
            for download in self._downloads.pop(instance_id).values():
                self._uncount(download)

    def keep_only(self, instance_ids: Container[str]) -> None:
        """Drop what is incomplete of all instances but these."""
        for instance_id in list(self._downloads):
            if instance_id not in instance_ids:
                self.forget(instance_id)

    def _begin(self, instance_id: str, blob_hash: str, total: int, name: str | None) -> _Download:
        self._remove(instance_id, blob_hash)
        downloads = self._downloads.setdefault(instance_id, {})
        if len(downloads) >= self.MAX_INCOMPLETE:
            raise BlobError(f"blob {blob_hash}: {len(downloads)} others of this instance are incomplete")
        # The server may claim any size. Room is only made for what could be accepted, all of it together.
        size = total * CHUNK_SIZE
        reserved = size if 0 < size <= self._max_blob_size - self._reserved else 0
        download = downloads[blob_hash] = _Download(total, name, reserved)
        self._reserved += reserved
        return download

    def _append(
        self, download: _Download, blob_hash: str, index: int, total: int, data: bytes | memoryview
    ) -> None:
        if total < 1 or total != download.total:
            raise BlobError(f"blob {blob_hash}: total_chunks is {total}, was {download.total} before")
        if index != download.next_index:
            raise BlobError(f"blob {blob_hash}: chunk {index} of {total}, expected {download.next_index}")
        assert download.data is not None
        if self._buffered + len(data) > self._max_blob_size:
            raise BlobError(
                f"blob {blob_hash}: more than max_blob_size={self._max_blob_size} bytes"
                " (counting other incomplete blobs)"
            )
        download.data.write(data)
        download.hasher.update(data)
        download.size += len(data)
        download.next_index += 1
        self._buffered += len(data)

    def _give_up(self, instance_id: str, blob_hash: str, total: int, *, last: bool) -> None:
        self._remove(instance_id, blob_hash)
        if not last and len(self._downloads.get(instance_id, {})) < self.MAX_INCOMPLETE:
            given_up = self._downloads.setdefault(instance_id, {})[blob_hash] = _Download(total, None)
            given_up.data = None

    def _remove(self, instance_id: str, blob_hash: str) -> None:
        downloads = self._downloads.get(instance_id)
        if downloads is None:
            return
        download = downloads.pop(blob_hash, None)
        if download is not None:
            self._uncount(download)
        if not downloads:
            del self._downloads[instance_id]

    def _uncount(self, download: _Download) -> None:
        self._buffered -= download.size
        self._reserved -= download.reserved
