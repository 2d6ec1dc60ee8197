"""Giving freed memory back to the system."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from pie_sync._support import freed_memory

#: Frees 80 MiB in pieces, with one that stays behind them, at the end of the heap.
FREE = """
from pie_sync._support.freed_memory import give_back_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 2**20

pieces = [bytes([number % 250 + 1]) * 20_000 for number in range(4000)]
last = bytes([251]) * 20_000
full = resident()
pieces.clear()
kept = resident()
give_back_freed_memory()
print(full, kept, resident())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc"
)
def test_what_is_free_inside_of_a_heap_goes_back():
    result = subprocess.run([sys.executable, "-c", FREE], capture_output=True, text=True, timeout=60, check=True)
    full, kept, left = map(int, result.stdout.split())
    assert kept > full - 20, "without it, the C library keeps what is freed"
    assert left < full - 60


@pytest.fixture
def anew(monkeypatch):
    """The C library is asked again."""
    freed_memory._malloc_trim.cache_clear()
    yield monkeypatch
    freed_memory._malloc_trim.cache_clear()


def test_a_c_library_that_cannot(anew):
    anew.setattr(ctypes, "CDLL", lambda name: object())
    freed_memory.give_back_freed_memory()


def test_a_program_without_dynamic_libraries(anew):
    def fail(name):
        raise OSError("no dynamic libraries")

    anew.setattr(ctypes, "CDLL", fail)
    freed_memory.give_back_freed_memory()


def test_another_system(anew):
    anew.setattr(sys, "platform", "darwin")
    anew.setattr(ctypes, "CDLL", None)
    freed_memory.give_back_freed_memory()
