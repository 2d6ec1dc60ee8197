"""Programs and blobs in chunks, and everything that can be wrong with them; the variants by hash and by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from blake3 import blake3

from pie_sync.testing import LocalServer, ProgramContext

from . import programs
from .conftest import Connect
from .raw import CHUNK_SIZE, COMPLETED, RawClient, chunks

#: A module of three chunks: a custom section makes it large.
LARGE_MODULE = programs.module(
    '(func (export "_start")) (@custom "padding" "' + "x" * (2 * CHUNK_SIZE + 1000) + '")'
)
MANIFEST = '[package]\nname = "test/hello"  # a comment\nversion = "1.0.0"\n'


def blake3_hex(data: bytes) -> str:
    return str(blake3(data).hexdigest())


@pytest.fixture
def named(connect: Connect) -> Iterator[RawClient]:
    """A client of a server of the variant by name."""
    with LocalServer(variant="name") as server:
        server.program("tool@2.0.0")(lambda ctx: "from the registry")
        yield connect(to=server)


def exists(client: RawClient, record: str) -> tuple[bool, str]:
    answer = client.request("query", subject="program_exists", record=record)
    return answer["successful"], answer["result"]


def bad_chunk(client: RawClient, kind: str, corr_id: int, chunk: dict[str, Any], **fields: Any) -> str:
    client.send(kind, corr_id=corr_id, **chunk, **fields)
    answer = client.receive()
    assert (answer["type"], answer["corr_id"], answer["successful"]) == ("response", corr_id, False)
    return str(answer["result"])


# Programs


@pytest.mark.parametrize("wasm", [programs.SUCCESS, LARGE_MODULE], ids=["one chunk", "three chunks"])
def test_the_answer_to_an_upload_is_the_hash(client: RawClient, wasm: bytes) -> None:
    program_hash = blake3_hex(wasm)
    assert exists(client, program_hash) == (True, "false")
    answer = client.upload_program(wasm)
    assert (answer["type"], answer["successful"], answer["result"]) == ("response", True, program_hash)
    assert exists(client, program_hash) == (True, "true")
    assert list(client.events(client.launch_hash(program_hash))) == [(COMPLETED, "")]


def test_programs_are_shared_by_all_users_and_may_be_uploaded_again(connect: Connect) -> None:
    program_hash = connect("alice").upload_program(programs.SUCCESS)["result"]
    bob = connect("bob")
    assert exists(bob, program_hash) == (True, "true")
    assert bob.upload_program(programs.SUCCESS)["result"] == program_hash


def test_fields_of_the_other_variant_are_ignored(client: RawClient) -> None:
    program_hash = client.upload_program(programs.SUCCESS, manifest="no TOML")["result"]
    answer = client.request(
        "launch_instance", program_hash=program_hash, inferlet="x/y@1", arguments=[], detached=False
    )
    assert list(client.events(answer["message"])) == [(COMPLETED, "")]


def test_an_unknown_hash_cannot_be_launched(client: RawClient) -> None:
    answer = client.request("launch_instance", program_hash="0" * 64, arguments=[], detached=False)
    assert (answer["type"], answer["successful"]) == ("instance_launch_result", False)


@pytest.mark.parametrize(
    "fields",
    [
        {"chunk_index": 1},
        {"total_chunks": 0},
        {"chunk_data": bytes(CHUNK_SIZE + 1)},
        {"program_hash": "0" * 64},
    ],
    ids=["not the first", "of none", "too large", "wrong hash"],
)
def test_a_bad_chunk_is_answered_at_once_and_the_next_upload_works(
    client: RawClient, fields: dict[str, Any]
) -> None:
    (chunk,) = chunks(programs.SUCCESS)
    message = {"program_hash": blake3_hex(programs.SUCCESS), **chunk, **fields}
    assert bad_chunk(client, "upload_program", 50, message)
    assert client.upload_program(programs.SUCCESS)["successful"]


def test_after_a_failed_chunk_each_later_one_fails_again(client: RawClient) -> None:
    first, second, third = chunks(LARGE_MODULE)
    fields = {"program_hash": blake3_hex(LARGE_MODULE)}
    client.send("upload_program", corr_id=50, **first, **fields)
    client.assert_unanswered()
    bad_chunk(client, "upload_program", 50, third, **fields)
    bad_chunk(client, "upload_program", 50, second, **fields)
    bad_chunk(client, "upload_program", 50, third, **fields)
    assert client.upload_program(LARGE_MODULE)["successful"]


def test_the_number_of_chunks_must_not_change(client: RawClient) -> None:
    first, second, _ = chunks(LARGE_MODULE)
    fields = {"program_hash": blake3_hex(LARGE_MODULE)}
    client.send("upload_program", corr_id=50, **first, **fields)
    bad_chunk(client, "upload_program", 50, {**second, "total_chunks": 4}, **fields)


def test_interleaved_uploads_break_both(client: RawClient) -> None:
    other_module = LARGE_MODULE + b"\0\1\0"  # one more, empty custom section
    uploads = [(50, LARGE_MODULE), (51, other_module)]
    (_, first), (_, other) = ((corr_id, chunks(wasm)) for corr_id, wasm in uploads)
    client.send("upload_program", corr_id=50, program_hash=blake3_hex(LARGE_MODULE), **first[0])
    client.assert_unanswered()
    bad_chunk(client, "upload_program", 51, other[0], program_hash=blake3_hex(other_module))
    bad_chunk(client, "upload_program", 50, first[1], program_hash=blake3_hex(LARGE_MODULE))
    bad_chunk(client, "upload_program", 51, other[1], program_hash=blake3_hex(other_module))
    assert exists(client, blake3_hex(LARGE_MODULE)) == (True, "false")


def test_each_connection_has_its_own_upload(connect: Connect) -> None:
    one, two = connect(), connect()
    program_hash = blake3_hex(LARGE_MODULE)
    first, *rest = chunks(LARGE_MODULE)
    one.send("upload_program", corr_id=50, program_hash=program_hash, **first)
    one.assert_unanswered()
    assert two.upload_program(LARGE_MODULE)["successful"]
    for chunk in rest:
        one.send("upload_program", corr_id=50, program_hash=program_hash, **chunk)
    assert one.answer(50)["successful"]


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"no module", b"\0asm\1\0\0\0garbage", b'(module (func (export "_start")))', LARGE_MODULE[:-1]],
    ids=["empty", "a byte", "text", "garbled", "text form", "cut"],
)
@pytest.mark.parametrize("variant", ["hash", "name"])
def test_what_cannot_be_compiled_costs_the_connection(connect: Connect, variant: str, data: bytes) -> None:
    with LocalServer(variant=variant) as server:
        client = connect(to=server)
        for chunk in chunks(data):
            client.send("upload_program", corr_id=50, program_hash=blake3_hex(data), manifest=MANIFEST, **chunk)
        client.assert_closed()
        assert exists(connect(to=server), blake3_hex(data) if variant == "hash" else "test/hello@1.0.0") == (
            True,
            "false",
        )


# The variant by name


def launch_named(client: RawClient, inferlet: str) -> dict[str, Any]:
    return client.request(
        "launch_instance", program_hash="ignored", inferlet=inferlet, arguments=["arg"], detached=False
    )


def test_by_name(named: RawClient) -> None:
    program_hash = blake3_hex(programs.HELLO)
    assert exists(named, "test/hello@1.0.0") == (True, "false")
    answer = named.upload_program(programs.HELLO, manifest=MANIFEST)
    assert (answer["successful"], answer["result"]) == (True, program_hash)
    assert exists(named, "test/hello@1.0.0") == (True, "true")
    assert exists(named, f"test/hello@1.0.0#{program_hash}") == (True, "true")
    assert exists(named, "test/hello@1.0.0#" + "0" * 64) == (True, "false")
    assert exists(named, "test/hello@1.0.1") == (True, "false")
    instance_id = launch_named(named, "test/hello@1.0.0")["message"]
    assert named.output(instance_id) == ("hello\narg\n", "", (COMPLETED, ""))


def test_by_name_a_bare_hash_is_no_name(named: RawClient) -> None:
    named.upload_program(programs.HELLO, manifest=MANIFEST)
    successful, result = exists(named, blake3_hex(programs.HELLO))
    assert not successful
    assert result


def test_by_name_the_registry_is_the_fallback(named: RawClient) -> None:
    instance_id = launch_named(named, "std/tool@2.0.0")["message"]
    assert list(named.events(instance_id)) == [(COMPLETED, "from the registry")]
    manifest = '[package]\nname = "std/tool"\nversion = "2.0.0"'
    named.upload_program(programs.HELLO, manifest=manifest)
    assert named.output(launch_named(named, "std/tool@2.0.0")["message"])[0] == "tool\narg\n"
    assert list(named.events(named.launch("std/tool@2.0.0"))) == [(COMPLETED, "from the registry")]


@pytest.mark.parametrize("inferlet", ["test/hello@1.0.0", "nonsense name", "0" * 64])
def test_by_name_an_unknown_program_cannot_be_launched(named: RawClient, inferlet: str) -> None:
    answer = launch_named(named, inferlet)
    assert (answer["type"], answer["successful"]) == ("instance_launch_result", False)


def test_by_name_the_other_variants_messages_lack_a_field(named: RawClient) -> None:
    (chunk,) = chunks(programs.HELLO)
    named.send("upload_program", corr_id=50, program_hash=blake3_hex(programs.HELLO), **chunk)
    named.send("launch_instance", corr_id=51, program_hash="0" * 64, arguments=[], detached=False)
    named.assert_unanswered()


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "no toml",
        'name = "test/hello"\nversion = "1"',
        '[package]\nname = "test/hello"',
        '[package]\nname = "hello"\nversion = "1"',
        '[package]\nname = "test/hello"\nversion = 1',
        '[package]\nname = "test/he llo"\nversion = "1"',
        '[package]\nname = "test/hello"\nversion = ""',
    ],
    ids=["empty", "no TOML", "no package", "no version", "no namespace", "number", "space", "empty version"],
)
def test_by_name_a_manifest_must_name_the_program(named: RawClient, manifest: str) -> None:
    assert not named.upload_program(programs.HELLO, manifest=manifest)["successful"]
    assert named.upload_program(programs.HELLO, manifest=MANIFEST)["successful"]


# Blobs


@pytest.fixture
def sizes(server: LocalServer) -> str:
    """The name of a program that tells the size of each blob it receives."""

    @server.program("sizes")
    def sizes(ctx: ProgramContext) -> None:
        while True:
            ctx.send(str(len(ctx.receive_blob())))

    return "sizes"


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


def test_a_blob_is_for_the_attached_only(connect: Connect, sizes: str) -> None:
    owner, other = connect("alice"), connect("alice")
    instance_id = owner.launch(sizes)
    for target in (instance_id, "nonsense"):
        answer = other.upload_blob(target, b"abc")
        assert not answer["successful"]
        assert answer["result"] == f"Instance not owned by client: {target}"
    detached = owner.launch(sizes, detached=True)
    assert owner.upload_blob(detached, b"abc")["result"].startswith("Instance not owned by client: ")
