"""The mask that a client puts on every frame (RFC 6455 section 5.3): XOR with a random key of four bytes.

Three ways to the same result, since Python has no XOR for bytes. Measured on a 2-core machine, in MiB/s:

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

#: ``import numpy`` takes about 0.1 s: as long as it takes to mask this many bytes without it. So it's imported
#: once that many have been masked, or used at once if the program has imported it anyway.
NUMPY_PAYS_AFTER = 96 * 1024 * 1024

_masked_without_numpy = 0

#: How many keys are made at once.
_KEYS = 64

#: Those that are not used yet. A list: taking one out is one step, so that no two threads get the same.
_keys: list[bytes] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keys.clear)  # the parent uses them


def new_key() -> bytes:
    """Return the key of one frame: four bytes that nobody can foresee, the same never again.

    ``os.urandom`` gives the interpreter lock away for a moment, and while the reader thread is busy it can take
    5 ms to get it back. So it isn't asked for each frame.
    """
    while True:
        try:
            return _keys.pop()
        except IndexError:
            block = os.urandom(4 * _KEYS)
            _keys.extend(block[start : start + 4] for start in range(0, len(block), 4))


def expect(size: int) -> None:
    """Take note that so many bytes are going to be masked: if numpy pays for that, it's imported now."""
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
    # Every fourth byte has the same key byte: a table look-up, which bytes.translate does in C.
    for offset, key_byte in enumerate(key, start):
        frame[offset::4] = frame[offset::4].translate(_xor_table(key_byte))


@lru_cache(maxsize=256)
def _xor_table(key_byte: int) -> bytes:
    return bytes(byte ^ key_byte for byte in range(256))


def _mask_by_numpy(numpy: Any, frame: bytearray, start: int, key: bytes) -> None:
    # Eight bytes at a time, from the first address divisible by eight on: an unaligned array takes
    # 2.5 times as long.
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
    """Return numpy if it's there and worth it, for masking ``size`` bytes more."""
    global _masked_without_numpy  # noqa: PLW0603 - whether to import a module is a matter of the process
    numpy = sys.modules.get("numpy")
    # While another thread is importing it, numpy is in sys.modules already, half made.
    if numpy is not None and hasattr(numpy, "uint64") and hasattr(numpy, "frombuffer"):
        return numpy
    _masked_without_numpy += size
    if _masked_without_numpy < NUMPY_PAYS_AFTER:
        return None
    try:
        import numpy as imported  # noqa: PLC0415 - deliberately late, see NUMPY_PAYS_AFTER
    except ImportError:
        # Not installed. Ask again after as many bytes more: cheap, and it may have been a fault of the moment.
        _masked_without_numpy = 0
        return None
    return imported
