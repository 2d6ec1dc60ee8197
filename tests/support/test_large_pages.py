"""Memory for large blobs."""

import ctypes
import re
import sys
import tracemalloc
from pathlib import Path

import pytest

from pie_sync._support import large_pages as _pages
from pie_sync._support.large_pages import LARGE, filled, writable

HAS_LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage").exists()


def advice(memory):
    """Return what the system was told of the middle of a BytesIO: the flags of that mapping."""
    with memory.getbuffer() as view:
        byte = ctypes.c_char.from_buffer(view, len(view) // 2)
        address = ctypes.addressof(byte)
        del byte
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if mapping := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            begin, end = (int(text, 16) for text in mapping.groups())
            inside = begin <= address < end
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    raise AssertionError(f"{address:#x} is in no mapping")


@pytest.mark.skipif(not HAS_LARGE_PAGES, reason="only Linux has them")
@pytest.mark.parametrize("size", [LARGE, LARGE + 1, LARGE + 12_345])
def test_large_memory_asks_for_large_pages(size):
    memory = writable(size)
    assert len(memory.getvalue()) == size
    assert "hg" in advice(memory)


@pytest.mark.skipif(not HAS_LARGE_PAGES, reason="only Linux has them")
def test_what_is_written_is_given_away_without_a_copy():
    tracemalloc.start()
    try:
        memory = writable(2 * LARGE)
        for _ in range(LARGE // 2**20):
            memory.write(b"x" * 2**20)
        memory.truncate(LARGE)
        data = memory.getvalue()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert data == b"x" * LARGE
    assert peak < 2 * LARGE + 3 * 2**20


@pytest.mark.parametrize("size", [0, 1, LARGE - 1])
def test_small_memory_is_not_reserved(size):
    assert writable(size).getvalue() == b""


@pytest.mark.parametrize("missing", ["the module", "ctypes.CDLL", "mmap.MADV_HUGEPAGE", "the system"])
def test_it_works_without(missing, monkeypatch):
    """Without the module that asks, the system's function or the constant for it; elsewhere than on Linux."""
    if missing == "the module":
        monkeypatch.setitem(sys.modules, "ctypes", None)
    elif missing == "the system":
        monkeypatch.setattr(_pages, "_CAN_ASK", False)
    else:
        monkeypatch.delattr(missing, raising=False)
    memory = writable(LARGE)
    memory.write(b"data")
    assert memory.getvalue() == b"data"


@pytest.mark.skipif(not HAS_LARGE_PAGES, reason="only there it is reserved")
def test_more_than_there_is_is_not_reserved():
    memory = writable(sys.maxsize // 2)
    memory.write(b"data")
    assert memory.getvalue() == b"data"


class Named(bytes):
    """A subclass, with attributes of its own."""


@pytest.mark.parametrize("kind", [bytes, Named])
@pytest.mark.parametrize("size", [0, 1, 1000, LARGE + 1])
@pytest.mark.parametrize("way", ["in place", "without ctypes", "another Python"])
def test_filled(kind, size, way, monkeypatch):
    if way == "without ctypes":
        monkeypatch.setitem(sys.modules, "ctypes", None)
    elif way == "another Python":
        monkeypatch.setattr(_pages, "_BYTES_AT", None)
    expected = bytes(index % 251 + 1 for index in range(1000)) * (size // 1000 + 1)

    def fill(data: memoryview) -> None:
        assert len(data) == size
        data[:] = expected[:size]

    data = filled(kind, size, fill)
    assert type(data) is kind
    assert data == expected[:size]
    assert hash(data) == hash(expected[:size])
    assert bytes([0])[0] == 0, "Python keeps the bytes objects of one byte"


def test_what_fill_raises_is_raised():
    def fill(data: memoryview) -> None:
        data[0] = 1
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        filled(bytes, 10, fill)
    assert bytes(10) == b"\0" * 10
