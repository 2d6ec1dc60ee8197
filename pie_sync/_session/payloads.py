"""Programs and blobs on their way to the server: what the user gives, hashed and cut into chunks.

Each chunk carries the hash of the whole payload (protocol, common rules). So a payload is read twice, once to
hash it and once to send it.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Protocol, Union

from blake3 import blake3

from .._protocol.chunks import CHUNK_SIZE
from ..errors import PieValueError, UploadError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TEXT_IS_A_PATH", "Payload", "PayloadSource", "check_is_wasm", "open_payload"]

#: What WebAssembly begins with.
_WASM = b"\0asm"

#: How much of a file is read at once for hashing.
_READ_SIZE = 1024 * 1024

#: What helps where a text was not meant as a path: a blob may have been, a program never is.
TEXT_IS_A_PATH = "a str is a path here; to upload the text itself, encode it: text.encode()"

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
def open_payload(source: PayloadSource, hint: str = "") -> Iterator[Payload]:
    """Make a :class:`Payload` of whatever the user gave, and hash it. Blocks while it is read.

    A file object is read from its current position to its end. One that can't seek (a pipe, a decompressing
    stream) is copied to an unnamed temporary file first, since it must be read twice.

    Args:
        source: what the user gave.
        hint: what helps if it is a text, and no path.

    Raises:
        TypeError: it is nothing that can be uploaded.
        PieValueError: a path has a null byte in it, or the file object is closed.
        OSError: the file can't be read.
    """
    if isinstance(source, (str, os.PathLike)):
        with _open(source, hint) as file:
            yield _FilePayload(file)
    elif not isinstance(source, (bytes, bytearray, memoryview)) and hasattr(source, "read"):
        if getattr(source, "closed", False):
            raise PieValueError("the file object to upload is closed")
        if _can_seek(source):
            yield _FilePayload(source)
        else:
            import tempfile  # noqa: PLC0415 - seldom needed

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


def check_is_wasm(payload: Payload, name: str = "the program") -> None:
    """Check that a program begins as WebAssembly does.

    Raises:
        UploadError: it does not.
    """
    begin = bytes(next(payload.chunks())[: len(_WASM)])
    if begin == _WASM:
        return
    if begin.lstrip()[:1] in (b"(", b";"):
        reason = "looks like WebAssembly text, and servers take the binary format"
    else:
        reason = f"is no WebAssembly: it begins with {begin!r}, not with {_WASM!r}"
    raise UploadError("upload_program", f"{name} {reason}; nothing was sent")


def _open(path: str | os.PathLike[str], hint: str) -> IO[bytes]:
    try:
        return open(path, "rb")
    except ValueError as error:  # "embedded null byte"
        raise PieValueError(f"{path!r} can't be a path: {error}", hint or None) from error
    except OSError as error:
        if hint and isinstance(path, str) and error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            error.strerror = f"{error.strerror} ({hint})"
        raise


def _can_seek(file: IO[bytes]) -> bool:
    seekable = getattr(file, "seekable", None)
    return seekable is not None and seekable()


def _copy(source: IO[bytes], copy: IO[bytes]) -> None:
    import shutil  # noqa: PLC0415 - seldom needed

    try:
        shutil.copyfileobj(source, copy, _READ_SIZE)
    except TypeError as error:
        raise TypeError("the file object gives text: open it with mode 'rb'") from error
    copy.seek(0)
