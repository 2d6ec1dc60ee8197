"""Memory for large blobs that comes in large pages, where Linux gives them.

The first write to each page of fresh memory is a page fault: 2 us on a virtual machine. For 64 MiB in pages of
4 KiB that makes 45 ms, several times what it takes to copy them; in pages of 2 MiB it makes 9 ms. Linux gives
large pages to those who ask for them, where ``/sys/kernel/mm/transparent_hugepage/enabled`` says "madvise"; and
Python has no way to ask for memory that becomes a ``bytes`` object, so the system's own function is called.
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress

__all__ = ["LARGE", "writable"]

#: From this many bytes on glibc maps memory of its own for each object and gives it back with it, so that what was
#: asked for holds for nothing else. (Below it reuses memory, which is written for the first time only once.)
LARGE = 32 * 1024 * 1024

#: The interior of BytesIO is what is counted on here; elsewhere they would be copied.
_CAN_ASK = sys.platform == "linux" and sys.implementation.name == "cpython"


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
        if sys.platform == "linux":  # elsewhere nobody calls this, and the constant is missing
            madvise(begin, end - begin, mmap.MADV_HUGEPAGE)
