"""Fields of SSH's messages, against paramiko's reading of them, and fields that are cut off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko import Message

from pie_sync.keys._wire import WireReader, pack_string, pack_uint32


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1), st.integers())
def test_reads_as_paramiko_does(data, number, large):
    message = Message()
    message.add_string(data)
    message.add_int(number)
    message.add_mpint(large)
    reader = WireReader(message.asbytes())
    assert (reader.string(), reader.uint32(), reader.mpint()) == (data, number, large)


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_packs_as_paramiko_does(data, number):
    message = Message()
    message.add_string(data)
    message.add_int(number)
    assert pack_string(data) + pack_uint32(number) == message.asbytes()


@pytest.mark.parametrize("read", [WireReader.uint32, WireReader.string, WireReader.mpint])
@pytest.mark.parametrize("data", [b"", b"\0\0\0"])
def test_a_number_that_is_cut_off(read, data):
    with pytest.raises(ValueError, match=f"ends {4 - len(data)} bytes after the data"):
        read(WireReader(data))


@pytest.mark.parametrize("data", [b"\0\0\0\5abcd", b"\0\0\0\1", b"\xff\xff\xff\xffabcd"])
def test_a_string_that_is_cut_off(data):
    with pytest.raises(ValueError, match="bytes after the data"):
        WireReader(data).string()


def test_a_string_at_the_very_end():
    reader = WireReader(pack_string(b"abcd"))
    assert reader.string() == b"abcd"
    with pytest.raises(ValueError, match="4 bytes after"):
        reader.uint32()
