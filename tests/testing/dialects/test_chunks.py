"""Uploads in chunks, and everything that can be wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.testing import programs
from tests.testing.conftest import Connect
from tests.testing.raw import CHUNK_SIZE, RawClient, blake3_hex, chunks


def bad_chunk(client: RawClient, kind: str, corr_id: int, chunk: dict[str, Any], **fields: Any) -> str:
    client.send(kind, corr_id=corr_id, **chunk, **fields)
    answer = client.receive()
    assert (answer["type"], answer["corr_id"], answer["successful"]) == ("response", corr_id, False)
    return str(answer["result"])


@pytest.mark.parametrize(
    "fields",
    [
        {"chunk_index": 1},
        {"chunk_data": bytes(CHUNK_SIZE + 1)},
        {"program_hash": "0" * 64},
    ],
    ids=["not the first", "too large", "wrong hash"],
)
def test_a_bad_chunk_is_answered_at_once_and_the_next_upload_works(
    client: RawClient, fields: dict[str, Any]
) -> None:
    (chunk,) = chunks(programs.SUCCESS)
    message = {"program_hash": blake3_hex(programs.SUCCESS), **chunk, **fields}
    assert bad_chunk(client, "upload_program", 50, message)
    assert client.upload_program(programs.SUCCESS)["successful"]


def test_after_a_failed_chunk_each_later_one_fails_again(client: RawClient) -> None:
    first, second, third = chunks(programs.LARGE)
    fields = {"program_hash": blake3_hex(programs.LARGE)}
    client.send("upload_program", corr_id=50, **first, **fields)
    client.assert_unanswered()
    bad_chunk(client, "upload_program", 50, third, **fields)
    bad_chunk(client, "upload_program", 50, second, **fields)
    bad_chunk(client, "upload_program", 50, third, **fields)
    assert client.upload_program(programs.LARGE)["successful"]


def test_the_number_of_chunks_must_not_change(client: RawClient) -> None:
    first, second, _ = chunks(programs.LARGE)
    fields = {"program_hash": blake3_hex(programs.LARGE)}
    client.send("upload_program", corr_id=50, **first, **fields)
    bad_chunk(client, "upload_program", 50, {**second, "total_chunks": 4}, **fields)


def test_interleaved_uploads_break_both(client: RawClient) -> None:
    other_module = programs.LARGE + b"\0\1\0"  # one more, empty custom section
    uploads = [(50, programs.LARGE), (51, other_module)]
    (_, first), (_, other) = ((corr_id, chunks(wasm)) for corr_id, wasm in uploads)
    client.send("upload_program", corr_id=50, program_hash=blake3_hex(programs.LARGE), **first[0])
    client.assert_unanswered()
    bad_chunk(client, "upload_program", 51, other[0], program_hash=blake3_hex(other_module))
    bad_chunk(client, "upload_program", 50, first[1], program_hash=blake3_hex(programs.LARGE))
    bad_chunk(client, "upload_program", 51, other[1], program_hash=blake3_hex(other_module))
    assert client.exists(blake3_hex(programs.LARGE)) == (True, "false")


def test_each_connection_has_its_own_upload(connect: Connect) -> None:
    one, two = connect(), connect()
    program_hash = blake3_hex(programs.LARGE)
    first, *rest = chunks(programs.LARGE)
    one.send("upload_program", corr_id=50, program_hash=program_hash, **first)
    one.assert_unanswered()
    assert two.upload_program(programs.LARGE)["successful"]
    for chunk in rest:
        one.send("upload_program", corr_id=50, program_hash=program_hash, **chunk)
    assert one.answer(50)["successful"]


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, CHUNK_SIZE + 1, 5 * CHUNK_SIZE])
def test_a_blob_of_any_size_is_answered_once(client: RawClient, sizes: str, size: int) -> None:
    instance_id = client.launch(sizes)
    assert client.upload_blob(instance_id, bytes(size))["successful"]
    assert client.receive()["message"] == str(size)
    client.assert_unanswered()


def test_different_blobs_may_be_interleaved_and_equal_ones_break(client: RawClient, sizes: str) -> None:
    instance_id = client.launch(sizes)
    one, two = b"1" * (CHUNK_SIZE + 1), b"2" * (CHUNK_SIZE + 2)
    for first, second in zip(chunks(one), chunks(two)):
        client.send("upload_blob", corr_id=50, instance_id=instance_id, blob_hash=blake3_hex(one), **first)
        client.send("upload_blob", corr_id=51, instance_id=instance_id, blob_hash=blake3_hex(two), **second)
    assert client.answer(50)["successful"]
    assert client.answer(51)["successful"]
    assert {client.receive()["message"], client.receive()["message"]} == {"262145", "262146"}

    first, second = chunks(one)
    fields = {"instance_id": instance_id, "blob_hash": blake3_hex(one)}
    client.send("upload_blob", corr_id=60, **first, **fields)
    bad_chunk(client, "upload_blob", 61, first, **fields)
    bad_chunk(client, "upload_blob", 60, second, **fields)
    bad_chunk(client, "upload_blob", 61, second, **fields)


def test_a_blob_must_match_its_hash(client: RawClient, sizes: str) -> None:
    instance_id = client.launch(sizes)
    answer = client.upload_blob(instance_id, b"abc", blob_hash="0" * 64)
    assert (answer["type"], answer["successful"]) == ("response", False)
    client.assert_unanswered()
