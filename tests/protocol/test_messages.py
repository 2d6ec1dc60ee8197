"""Large chunks are not copied when they are unpacked, and mean the same all the same."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pie_sync._protocol import InstanceProtocol, ProcessProtocol
from pie_sync._protocol import messages as messages_module
from pie_sync._protocol.messages import BadMessage

HASH = "ab" * 32
BIG = bytes(range(256)) * 300
INSTANCE = {
    "type": "download_blob",
    "corr_id": 0,
    "instance_id": "id",
    "blob_hash": HASH,
    "chunk_index": 0,
    "total_chunks": 1,
}
PROCESS = {"type": "file", "process_id": "id", "file_hash": HASH, "chunk_index": 0, "total_chunks": 1}
MARKER = b"\xaachunk_data\xc6"


def outcome(decode, payload):
    try:
        return decode(payload)
    except BadMessage as bad:
        return str(bad).replace("memoryview", "bytes"), bad.corr_id, bad.instance_id


@pytest.mark.parametrize(("generation", "fields"), [(InstanceProtocol(), INSTANCE), (ProcessProtocol(), PROCESS)])
def test_a_view_into_the_message(generation, fields):
    payload = bytearray(msgpack.packb({**fields, "chunk_data": BIG}))
    chunk = generation.decode(memoryview(payload))
    assert chunk.data == BIG
    assert isinstance(chunk.data, memoryview)
    kept = chunk.kept()
    payload[-1] ^= 0xFF
    assert chunk.data != BIG, "it is a view"
    assert kept.data == BIG


names = st.sampled_from(["type", "chunk_data", "instance_id", "chunk_index", "extra"])
leaves = st.one_of(
    st.just(BIG),
    st.just(b""),
    st.just("download_blob"),
    st.integers(0, 3),
    # What looks like a chunk, inside of something else.
    st.builds(lambda size: MARKER + size.to_bytes(4, "big") + BIG, st.integers(len(BIG) - 1, len(BIG) + 1)),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=4)),
    max_leaves=6,
)
trees = st.one_of(trees, trees.map(lambda tree: {**INSTANCE, "extra": tree, "chunk_data": BIG}))


@settings(max_examples=300)
@given(tree=trees, tail=st.binary(max_size=2), cut=st.integers(0, 3))
def test_the_same_as_without(tree, tail, cut):
    payload = msgpack.packb(tree) + tail
    payload = payload[: len(payload) - cut]
    generation = InstanceProtocol()
    found = outcome(generation.decode, payload)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages_module, "_unpack_chunk", lambda payload: None)
        assert found == outcome(generation.decode, payload)
