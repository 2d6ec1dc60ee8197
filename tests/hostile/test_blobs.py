"""Blobs in chunks that are lost, repeated, out of order, or lie: what arrives is whole, and the rest is told."""

from __future__ import annotations

import os
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from pie_sync import Event, ProtocolError
from tests.hostile.conversation import Conversation, conversation
from tests.hostile.test_any_bytes import fuzz, integers, values

BLOBS = [b"the first", b"another one", b"x"]


@pytest.fixture(scope="module")
def talk():
    with conversation(max_blob_size=10_000) as talk:
        yield talk


def chunks(blob: bytes, count: int) -> list[dict[str, Any]]:
    """Cut a blob into any number of chunks."""
    size = -(-len(blob) // count)
    return [
        {
            "type": "download_blob",
            "corr_id": 0,
            "blob_hash": blake3(blob).hexdigest(),
            "chunk_index": number,
            "total_chunks": count,
            "chunk_data": blob[number * size : (number + 1) * size],
        }
        for number in range(count)
    ]


TRUE = [chunk for blob in BLOBS for count in (1, 2, 3) for chunk in chunks(blob, count)]

LIES = {
    "blob_hash": st.one_of(st.sampled_from([chunk["blob_hash"] for chunk in TRUE]), st.text(max_size=70)),
    "chunk_index": integers,
    "total_chunks": integers,
    "chunk_data": st.binary(max_size=20),
    "instance_id": st.text(max_size=5),
}


@st.composite
def some_chunks(draw: st.DrawFn) -> dict[str, Any]:
    """A chunk of one of the blobs; perhaps with a lie in one field, or something else altogether."""
    chunk = dict(draw(st.sampled_from(TRUE)))
    if draw(st.integers(0, 3)) == 0:
        field = draw(st.sampled_from(sorted(LIES)))
        chunk[field] = draw(st.one_of(LIES[field], values))
    return chunk


@fuzz
@given(st.lists(st.one_of(some_chunks(), st.sampled_from(BLOBS)), max_size=12))
def test_chunks_of_all_kinds(talk: Conversation, said: list[Any]):
    target = talk.client.launch_instance_from_registry("target")
    fresh = os.urandom(20)
    messages: list[dict[str, Any]] = []
    for chunk_or_blob in (*said, fresh):
        messages += chunks(chunk_or_blob, 3) if isinstance(chunk_or_blob, bytes) else [chunk_or_blob]
    end = {"type": "instance_event", "instance_id": target.id, "event": 1, "message": ""}
    talk.say(*({"instance_id": target.id, **message} for message in messages), end)
    received = []
    while not target.finished:
        try:
            received.append(target.recv(10))
        except ProtocolError as error:
            assert "instance target" in str(error) or "'download_blob'" in str(error)
    assert received.pop() == (Event.Completed, "")
    assert received.pop() == (Event.Blob, fresh), "a good blob after all that"
    assert all(event is Event.Blob and data in BLOBS for event, data in received)
    assert talk.prove_life() == []


def test_an_error_is_in_its_place(talk: Conversation):
    target = talk.client.launch_instance_from_registry("target")
    event = {"type": "instance_event", "instance_id": target.id, "event": 0}
    first, second = chunks(b"to be falsified", 2)
    talk.say(
        {**event, "message": "before"},
        {**first, "instance_id": target.id},
        {**second, "instance_id": target.id, "chunk_data": b"falsified"},
        {**event, "message": "after"},
        {**event, "event": 1, "message": "the end"},
    )
    assert target.recv(10) == (Event.Message, "before")
    with pytest.raises(ProtocolError, match="do not match"):
        target.recv(10)
    assert list(target) == [(Event.Message, "after"), (Event.Completed, "the end")]


def test_the_half_of_a_blob_of_an_instance_that_nobody_holds_takes_no_room():
    """What all incomplete blobs may take together is for those that somebody waits for."""
    blob = os.urandom(9_000)
    first, second = chunks(blob, 2)
    with conversation(max_blob_size=10_000) as talk:
        for number in range(3):
            target = talk.client.launch_instance_from_registry(f"target {number}")
            talk.say({**first, "instance_id": target.id})
            assert talk.prove_life() == []
            del target
        last = talk.client.launch_instance_from_registry("the last")
        talk.say({**first, "instance_id": last.id}, {**second, "instance_id": last.id})
        assert last.recv(10) == (Event.Blob, blob)
