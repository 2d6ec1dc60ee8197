"""Memory for large blobs that comes in large pages, where Linux gives them.

The first write to each page of fresh memory is a page fault: 2 us on a virtual machine. For 64 MiB in pages of
4 KiB that makes 45 ms, several times what it takes to copy them; in pages of 2 MiB it makes 9 ms. Linux gives
large pages to those who ask for them, where ``/sys/kernel/mm/transparent_hugepage/enabled`` says "madvise"; and
Python has no way to ask for memory that becomes a ``bytes`` object, so the system's own function is called.

Measured by taking it out: a download of 64 MiB takes 1.2 to 1.4 times as long without large pages.
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, TypeVar

if TYPE_CHECKING:
    from ctypes import Array, c_ubyte

__all__ = ["LARGE", "filled", "writable"]

B = TypeVar("B", bound=bytes)

#: From this many bytes on glibc maps memory of its own for each object and gives it back with it, so that what was
#: asked for holds for nothing else. (Below it reuses memory, which is written for the first time only once.)
LARGE = 32 * 1024 * 1024

#: The interior of BytesIO is what is counted on here; elsewhere they would be copied.
_CAN_ASK = sys.platform == "linux" and sys.implementation.name == "cpython"

#: Where the bytes of a ``bytes`` object are in it: last, with a zero behind them.
_BYTES_AT = bytes.__basicsize__ - 1 if sys.implementation.name == "cpython" else None


def writable(size: int) -> io.BytesIO:
    """Return a file in memory with ``size`` bytes of zeros, if that is large; else an empty one.

    The zeros take no memory until they are overwritten. ``truncate`` it to what was written, and ``getvalue``
    gives that away without a copy.
    """
    if size >= LARGE and _CAN_ASK:
        # All of it only saves time, and it may fail in many ways: no such kernel, no ctypes, a limit on memory.
        with suppress(Exception):
            memory = io.BytesIO(bytes(size))  # it takes over the bytes, since nobody else has them
            _ask_for_large_pages(memory)
            return memory
    return io.BytesIO()


def _ask_for_large_pages(memory: io.BytesIO) -> None:
    import ctypes  # noqa: PLC0415 - 3 ms, so only here
    import mmap  # noqa: PLC0415

    with memory.getbuffer() as view:
        # It must be released before the view can be: the name is the only reference.
        first_byte = ctypes.c_char.from_buffer(view)
        begin = ctypes.addressof(first_byte)
        del first_byte
        end = begin + len(view)
        # Whole pages only: the first one and the last one may hold something else, too.
        begin = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        end = end // mmap.PAGESIZE * mmap.PAGESIZE
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if sys.platform == "linux":  # elsewhere there is no such constant, and nobody asks
            madvise(begin, end - begin, mmap.MADV_HUGEPAGE)


def filled(kind: type[B], size: int, fill: Callable[[memoryview], None]) -> B:
    """Return a bytes object that ``fill`` writes the bytes of, through the view that it is given.

    It takes its size in memory, where CPython shows where its bytes are; else twice that while it is made, as
    whatever Python offers to make an instance of a subclass of bytes. What ``fill`` raises is raised.

    Args:
        kind: bytes, or a subclass of it.
        size: how many bytes.
        fill: called once, before anybody else has the object. It must not keep the view.

    Raises:
        MemoryError: there is not that much.
    """
    interior = _interior_type(size)
    if interior is None:
        buffer = bytearray(size)
        fill(memoryview(buffer))
        return bytes.__new__(kind, buffer)
    data = bytes.__new__(kind, size)  # zeros
    assert _BYTES_AT is not None
    fill(memoryview(interior.from_address(id(data) + _BYTES_AT)).cast("B"))
    return data


def _interior_type(size: int) -> type[Array[c_ubyte]] | None:
    if _BYTES_AT is None:
        return None
    try:
        import ctypes  # noqa: PLC0415 - 3 ms, so only here
    except ImportError:  # Python may be built without it
        return None
    return ctypes.c_ubyte * size
