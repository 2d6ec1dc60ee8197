"""Programs and blobs on their way: chunking, BLAKE3 hashes, reassembly with limits. No sockets.

The protocol cuts a payload into chunks of at most 256 KiB, each of which carries the hash of the whole: so a
payload is read twice, once to hash it and once to send it.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Protocol, Union

from blake3 import blake3

from .._support.large_pages import writable
from ..events import Blob

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

__all__ = ["CHUNK_SIZE", "BlobAssembler", "Payload", "PayloadSource", "TransferError", "open_payload"]

#: The most bytes that one chunk may carry (protocol, common rules).
CHUNK_SIZE = 256 * 1024

#: How much of a file is read at once for hashing.
_READ_SIZE = 1024 * 1024

#: How large a blob must be for a thread to be worth what it costs to start, about 0.1 ms.
_HASH_BESIDE_FROM = 4 * 1024 * 1024

#: What ``upload_program`` and ``upload_blob`` take: bytes-like, a path, or a binary file object.
PayloadSource = Union[bytes, bytearray, memoryview, str, "os.PathLike[str]", IO[bytes]]


class Payload(Protocol):
    """Something to be sent in chunks.

    Attributes:
        size: its length in bytes.
        hash: the BLAKE3 hash of all of it, in hex.
    """

    size: int
    hash: str

    def chunks(self) -> Iterator[Any]:
        """Yield the chunks in order, each a bytes-like object of bytes; one empty chunk if there's nothing."""


def count_chunks(size: int) -> int:
    """Return how many chunks ``size`` bytes take: at least one (protocol, common rules)."""
    return max(1, -(-size // CHUNK_SIZE))


class _MemoryPayload:
    def __init__(self, data: Any) -> None:
        view = memoryview(data)
        # A view with gaps, or of items larger than a byte, can't be cut at byte positions as it is.
        self._view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
        self.size = self._view.nbytes
        # Not by several threads (max_threads): BLAKE3 would keep them, and in a child that is forked later, where
        # they don't exist, hashing would wait for them for ever.
        self.hash: str = blake3(self._view).hexdigest()

    def chunks(self) -> Iterator[Any]:
        for position in range(0, max(1, self.size), CHUNK_SIZE):
            yield self._view[position : position + CHUNK_SIZE]


class _FilePayload:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._begin = file.tell()
        hasher = blake3()
        while block := file.read(_READ_SIZE):
            if not isinstance(block, bytes):
                raise TypeError("the file object gives text: open it with mode 'rb'")
            hasher.update(block)
        self.size = file.tell() - self._begin
        self.hash: str = hasher.hexdigest()

    def chunks(self) -> Iterator[Any]:
        self._file.seek(self._begin)
        left = self.size
        while True:
            chunk = _read_exactly(self._file, min(left, CHUNK_SIZE))
            left -= len(chunk)
            yield chunk
            if left == 0:
                return


def _read_exactly(file: IO[bytes], size: int) -> bytes:
    """Read ``size`` bytes; raw (unbuffered) files may give fewer at a time."""
    data = file.read(size)
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            raise OSError("the file became shorter while it was being uploaded")
        data += more
    return data


@contextmanager
def open_payload(source: PayloadSource) -> Iterator[Payload]:
    """Make a :class:`Payload` of whatever the user gave, and hash it. Blocks while it is read.

    A file object is read from its current position to its end. One that can't seek (a pipe, a decompressing
    stream) is copied to an unnamed temporary file first, since it must be read twice.

    Raises:
        TypeError: it is nothing that can be uploaded.
        OSError: the file can't be read.
    """
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:
            yield _FilePayload(file)
    elif not isinstance(source, (bytes, bytearray, memoryview)) and hasattr(source, "read"):
        if _can_seek(source):
            yield _FilePayload(source)
        else:
            with tempfile.TemporaryFile() as copy:
                _copy(source, copy)
                yield _FilePayload(copy)
    else:
        try:
            payload = _MemoryPayload(source)
        except TypeError as error:
            raise TypeError(
                f"expected bytes, a path or a binary file object to upload, not {type(source).__name__}"
            ) from error
        yield payload


def _can_seek(file: IO[bytes]) -> bool:
    seekable = getattr(file, "seekable", None)
    return seekable is not None and seekable()


def _copy(source: IO[bytes], copy: IO[bytes]) -> None:
    try:
        shutil.copyfileobj(source, copy, _READ_SIZE)
    except TypeError as error:
        raise TypeError("the file object gives text: open it with mode 'rb'") from error
    copy.seek(0)


class TransferError(Exception):
    """A blob that the server sends can't be put together; the text says why."""


class _Download:
    """One blob that is coming in. ``data`` is None once it was given up: the rest of it is ignored.

    The chunks are put together in a BytesIO, because it grows without being copied and gives its bytes away as
    they are. What a large blob costs is mostly the fresh memory that is written to: once here, where large pages
    make it cheap (``_pages.py``), and once in the :class:`Blob`, where it's up to CPython, 0.6 ms a MiB.

    Args:
        total: how many chunks.
        name: the blob's name, if it has one.
        reserved: how many bytes it may become; room for them is made at once if that pays.
    """

    __slots__ = ("data", "name", "next_index", "reserved", "size", "total")

    def __init__(self, total: int, name: str | None, reserved: int = 0) -> None:
        self.total = total
        self.name = name
        self.next_index = 0
        self.size = 0
        self.reserved = reserved
        self.data: io.BytesIO | None = writable(reserved)

    def whole(self) -> bytes:
        """Return what was put together."""
        assert self.data is not None
        self.data.truncate(self.size)
        return self.data.getvalue()


def _blob_and_hash(data: bytes, name: str | None) -> tuple[Blob, str]:
    """Make a blob, and hash it: a large one in another thread at the same time.

    BLAKE3 works without the interpreter lock, so with two processors a blob of 64 MiB takes 50 ms instead of 68.
    """
    hasher = blake3()
    helper = None
    if len(data) >= _HASH_BESIDE_FROM:
        helper = threading.Thread(target=hasher.update, args=(data,), name="pie-sync hash", daemon=True)
        try:
            helper.start()
        except RuntimeError:  # there can't be more threads
            helper = None
    if helper is None:
        hasher.update(data)
    blob = Blob(data, name)
    if helper is not None:
        helper.join()
    return blob, hasher.hexdigest()


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
            TransferError: the blob is given up: once, at its first bad chunk; later chunks are ignored.
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
        except TransferError:
            self._give_up(instance_id, blob_hash, total, last=index >= total - 1)
            raise
        if download.next_index < download.total:
            return None
        self._remove(instance_id, blob_hash)
        blob, found = _blob_and_hash(download.whole(), download.name)
        if found != blob_hash:
            raise TransferError(f"blob {blob_hash}: its {download.size} bytes do not match this hash")
        return blob

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
            raise TransferError(f"blob {blob_hash}: {len(downloads)} others of this instance are incomplete")
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
            raise TransferError(f"blob {blob_hash}: total_chunks is {total}, was {download.total} before")
        if index != download.next_index:
            raise TransferError(f"blob {blob_hash}: chunk {index} of {total}, expected {download.next_index}")
        assert download.data is not None
        if self._buffered + len(data) > self._max_blob_size:
            raise TransferError(
                f"blob {blob_hash}: more than max_blob_size={self._max_blob_size} bytes"
                " (counting other incomplete blobs)"
            )
        download.data.write(data)
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
