"""Masks the frames of a client (RFC 6455 section 5.3): XOR with a random key of four bytes.

Python has no XOR for bytes, so there are three ways to do it. Measured on a 2-core machine, in MiB/s:

===================  ==============  ==============  ================  ========================================
way                  128 bytes       4 KiB           256 KiB (a chunk)  used
===================  ==============  ==============  ================  ========================================
one big integer      250             500             300               up to ``INTEGER_LIMIT`` bytes
four translations    97              710             920               above, while numpy isn't there
numpy                54              1 570           26 700            above ``NUMPY_FROM`` bytes, with numpy
                                                                       (extra ``speedups``)
===================  ==============  ==============  ================  ========================================
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["expect", "mask_in_place", "masked", "new_key"]

#: Above this many bytes four translations beat one big integer.
INTEGER_LIMIT = 128

#: Above this many bytes numpy beats the four translations.
NUMPY_FROM = 1536

#: ``import numpy`` takes about 0.1 s, as long as masking this many bytes without numpy. So numpy is imported once
#: that many bytes have been masked, and used at once if the program has imported it anyway.
NUMPY_PAYS_AFTER = 96 * 1024 * 1024

_masked_without_numpy = 0

#: How many keys are made at once.
_KEYS = 64

#: The keys that are not used yet. list.pop() is atomic, so no two threads get the same key.
_keys: list[bytes] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keys.clear)  # the parent uses these keys


def new_key() -> bytes:
    """Return a key for one frame: four bytes that nobody can predict, each key used once.

    ``os.urandom`` releases the interpreter lock, and while the reader thread is busy, getting it back can take
    5 ms. So it is called once for many frames.
    """
    while True:
        try:
            return _keys.pop()
        except IndexError:
            block = os.urandom(4 * _KEYS)
            _keys.extend(block[start : start + 4] for start in range(0, len(block), 4))


def expect(size: int) -> None:
    """Announce that ``size`` bytes are going to be masked, so that numpy is imported now if that pays."""
    if size >= NUMPY_PAYS_AFTER:
        _numpy(size)


def masked(payload: bytes | bytearray, key: bytes) -> bytes:
    """Return ``payload`` XOR the four bytes of ``key``, repeated. For up to ``INTEGER_LIMIT`` bytes."""
    size = len(payload)
    mask = (key * (INTEGER_LIMIT // 4))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")


def mask_in_place(frame: bytearray, start: int, key: bytes) -> None:
    """XOR ``frame[start:]`` with the four bytes of ``key``, repeated."""
    size = len(frame) - start
    if size <= INTEGER_LIMIT:
        frame[start:] = masked(frame[start:], key)
        return
    numpy = _numpy(size) if size > NUMPY_FROM else None
    if numpy is None:
        _mask_by_translation(frame, start, key)
    else:
        _mask_by_numpy(numpy, frame, start, key)


def _mask_by_translation(frame: bytearray, start: int, key: bytes) -> None:
    # Every fourth byte is masked by the same byte of the key: a table look-up, which bytes.translate does in C.
    for offset, key_byte in enumerate(key, start):
        frame[offset::4] = frame[offset::4].translate(_xor_table(key_byte))


@lru_cache(maxsize=256)
def _xor_table(key_byte: int) -> bytes:
    return bytes(byte ^ key_byte for byte in range(256))


def _mask_by_numpy(numpy: Any, frame: bytearray, start: int, key: bytes) -> None:
    # Eight bytes at a time, from the first position divisible by eight: an unaligned array takes 2.5 times as
    # long.
    head = -start % 8
    body = start + head
    words = (len(frame) - body) // 8
    tail = body + 8 * words
    turned = key[head % 4 :] + key[: head % 4]
    view = numpy.frombuffer(frame, dtype=numpy.uint64, count=words, offset=body)
    view ^= int.from_bytes(turned * 2, sys.byteorder)  # a Python int is cheaper here than a numpy scalar
    del view  # it would keep the bytearray from being resized
    for index in range(start, body):
        frame[index] ^= key[(index - start) % 4]
    for index in range(tail, len(frame)):
        frame[index] ^= key[(index - start) % 4]


def _numpy(size: int) -> ModuleType | None:
    """Return numpy if it is imported, or if importing it pays for masking ``size`` bytes more; else None."""
    global _masked_without_numpy  # noqa: PLW0603 - whether to import a module is a matter of the process
    numpy = sys.modules.get("numpy")
    # While another thread imports numpy, sys.modules has it already, without all of its attributes.
    if numpy is not None and hasattr(numpy, "uint64") and hasattr(numpy, "frombuffer"):
        return numpy
    _masked_without_numpy += size
    if _masked_without_numpy < NUMPY_PAYS_AFTER:
        return None
    try:
        import numpy as imported  # noqa: PLC0415 - deliberately late, see NUMPY_PAYS_AFTER
    except ImportError:
        # Not installed, or not importable at the moment. Trying again after as many bytes more is cheap.
        _masked_without_numpy = 0
        return None
    return imported
