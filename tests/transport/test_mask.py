import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pie_sync._transport import mask as _mask

# Around the limits between the three ways, and around the eight bytes that numpy takes at a time.
SIZES = [*range(18), 127, 128, 129, 130, 511, 1535, 1536, 1537, 1544, 65536, 262_144 + 13]


def plain_mask(data: bytes, key: bytes) -> bytes:
    """RFC 6455 section 5.3, letter by letter."""
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(data))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("start", [0, 6, 8, 14])
@pytest.mark.parametrize("numpy", [False, True])
def test_every_way_gives_the_same_as_the_plain_one(size, start, numpy, monkeypatch):
    if numpy:
        __import__("numpy")
    else:
        monkeypatch.setattr(_mask, "_numpy", lambda size: None)
    key = os.urandom(4)
    header, payload = os.urandom(start), os.urandom(size)
    frame = bytearray(header + payload)
    _mask.mask_in_place(frame, start, key)
    assert frame == header + plain_mask(payload, key)


@given(payload=st.binary(max_size=5000), key=st.binary(min_size=4, max_size=4), start=st.integers(0, 20))
def test_masking_twice_gives_the_original(payload, key, start):
    frame = bytearray(start) + payload
    _mask.mask_in_place(frame, start, key)
    _mask.mask_in_place(frame, start, key)
    assert frame == bytearray(start) + payload


@given(
    payload=st.binary(min_size=32, max_size=4000), key=st.binary(min_size=4, max_size=4), start=st.integers(0, 20)
)
def test_translation_and_numpy_agree(payload, key, start):
    import numpy

    by_translation = bytearray(start) + payload
    by_numpy = bytearray(by_translation)
    _mask._mask_by_translation(by_translation, start, key)
    _mask._mask_by_numpy(numpy, by_numpy, start, key)
    assert by_translation == by_numpy


def test_numpy_is_imported_only_when_it_pays():
    program = (
        "import sys; from pie_sync._transport import mask as _mask\n"
        "def mask(size): _mask.mask_in_place(bytearray(size), 0, b'abcd')\n"
        "mask(1_000_000); assert 'numpy' not in sys.modules\n"
        "mask(_mask.NUMPY_PAYS_AFTER); assert 'numpy' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_works_without_numpy():
    program = (
        "import sys; sys.modules['numpy'] = None; from pie_sync._transport import mask as _mask\n"
        "frame = bytearray(_mask.NUMPY_PAYS_AFTER + 1)\n"
        "_mask.mask_in_place(frame, 1, b'abcd'); assert frame[:6] == b'\\0abcda', bytes(frame[:6])\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_every_key_is_used_once_whoever_takes_it():
    """Several threads at once, over many of the blocks in which they are made."""
    taken: list[list[bytes]] = [[] for _ in range(4)]

    def take(mine: list[bytes]) -> None:
        for _ in range(5000):
            mine.append(_mask.new_key())

    threads = [threading.Thread(target=take, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [key for mine in taken for key in mine]
    assert all(len(key) == 4 for key in keys)
    # 20 000 random ones of 2^32: that more than a few of them are alike by chance does not happen.
    assert len(keys) - len(set(keys)) < 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_makes_keys_of_its_own():
    _mask.new_key()  # so that some are left over
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(_mask.new_key() for _ in range(32)))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        theirs = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    assert len(theirs) == 128
    ours = {_mask.new_key() for _ in range(100)}
    assert sum(theirs[start : start + 4] in ours for start in range(0, 128, 4)) < 3
