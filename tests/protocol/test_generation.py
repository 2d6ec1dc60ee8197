"""What both generations of the protocol have in common, under the names that each gives it."""

import msgpack
import pytest

from pie_sync import Event, PieValueError
from pie_sync._protocol import PROTOCOLS, InstanceProtocol, ProcessProtocol
from pie_sync._protocol.generation import Generation, Names
from pie_sync._protocol.messages import BadMessage, BlobChunk, pack_id

GENERATIONS = list(PROTOCOLS.values())
HASH = "ab" * 32

#: The requests that take a correlation id, with arguments for them.
REQUESTS = {
    "identify": ("alice",),
    "prove": ("c2ln",),
    "authenticate_by_token": ("secret",),
    "ping": (),
    "query": ("model_status", ""),
    "attach": ("id",),
    "list": (),
    "terminate": ("id",),
}


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda generation: generation.name)
@pytest.mark.parametrize("request_name", REQUESTS)
def test_a_request_has_a_type_and_its_correlation_id(generation, request_name):
    message = msgpack.unpackb(getattr(generation, request_name)(7, *REQUESTS[request_name]))
    assert message["corr_id"] == 7
    assert len(message) == 2 + len(REQUESTS[request_name])
    assert set(REQUESTS[request_name]) <= set(message.values())
    in_table = request_name.replace("authenticate_by_token", "internal")
    assert message["type"] == getattr(generation.names, in_table, request_name)


def test_the_generations_differ_in_every_name():
    one, other = (generation.names for generation in GENERATIONS)
    assert not set(one) & set(other)
    assert all(isinstance(name, str) for name in one + other)
    assert Names._fields == one._fields


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda generation: generation.name)
def test_a_chunk_of_a_blob(generation):
    head = generation.blob_chunk(7, "id", HASH, 1, 2, 3)
    message = msgpack.unpackb(head + b"abc")
    assert message.get("corr_id") == (7 if generation.confirms_blobs else None)
    assert message["chunk_data"] == b"abc"
    assert (message["chunk_index"], message["total_chunks"]) == (1, 2)
    names = generation.names
    assert (message[names.instance_id], message[names.blob_hash]) == ("id", HASH)


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda generation: generation.name)
def test_a_hash_of_another_length_is_refused(generation):
    kind = {"instance": "download_blob", "process": "file"}[generation.name]
    names = generation.names
    message = {"type": kind, names.instance_id: "id", "chunk_index": 0, "total_chunks": 1, "chunk_data": b"x"}
    good = generation.decode(msgpack.packb({**message, names.blob_hash: HASH}))
    assert good == BlobChunk("id", HASH, 0, 1, b"x")
    with pytest.raises(BadMessage, match=kind):
        generation.decode(msgpack.packb({**message, names.blob_hash: HASH[1:]}))


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda generation: generation.name)
def test_terminal_events_have_no_prefix(generation):
    assert isinstance(generation, Generation)
    for event in Event:
        expected = event in (Event.Message, Event.Stdout, Event.Stderr)
        assert (generation.before_text("id", event) is not None) == expected


@pytest.mark.parametrize("args", [[], ["--n", "5", "ü"], {"n": 5, "greedy": True}])
@pytest.mark.parametrize("corr_id", [0, 127, 70_000, 2**32 - 1])
@pytest.mark.parametrize("generation", [InstanceProtocol(), ProcessProtocol()])
def test_many_launches_are_encoded_as_one_is(generation, corr_id, args):
    program_hash = "ab" * 32
    name = generation.content_name(program_hash)
    by_hash = generation.launch_encoder(program_hash, str(name))
    by_name = generation.launch_encoder(None, "talk")
    for _ in range(2):
        assert by_hash(corr_id, args) == generation.launch(corr_id, program_hash, name, args, False)
        assert by_name(corr_id, args) == generation.launch_from_registry(corr_id, "talk", args, False)


def test_an_encoder_goes_on_after_arguments_that_it_can_not_encode():
    encode = InstanceProtocol().launch_encoder(None, "talk")
    with pytest.raises(PieValueError, match="half a surrogate pair"):
        encode(1, ["a", "\ud800"])
    assert encode(2, ["a"]) == InstanceProtocol().launch_from_registry(2, "talk", ["a"], False)


@pytest.mark.parametrize("instance_id", ["", "i", "x" * 31, "x" * 32, "0" * 36, "ü" * 127, "ü" * 128, "x" * 256])
def test_an_id_is_packed_as_any_text(instance_id):
    assert pack_id(instance_id) == msgpack.packb(instance_id)
