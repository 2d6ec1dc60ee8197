"""The instance protocol: programs by hash and by name, authentication, and what is never answered."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from pie_sync.testing import LocalServer
from tests.testing import programs
from tests.testing.conftest import Connect
from tests.testing.keys import public_line
from tests.testing.raw import COMPLETED, RawClient, blake3_hex, chunks

UNKNOWN_ID = str(uuid.UUID(int=5))


@pytest.mark.parametrize(
    ("instance_id", "result"),
    [(UNKNOWN_ID, "Instance not found"), ("nonsense", "Invalid instance_id"), ("", "Invalid instance_id")],
)
def test_attach_refusals(client: RawClient, instance_id: str, result: str) -> None:
    assert client.attach(instance_id) == (False, result)


def test_terminate_succeeds_for_any_well_formed_id(client: RawClient) -> None:
    assert client.terminate(UNKNOWN_ID)[0]
    assert client.terminate("nonsense") == (False, "Malformed instance ID")


# Programs and blobs


MANIFEST = '[package]\nname = "test/hello"  # a comment\nversion = "1.0.0"\n'


@pytest.fixture
def named(connect: Connect) -> Iterator[RawClient]:
    """A client of a server of the variant by name."""
    with LocalServer(variant="name") as server:
        server.program("tool@2.0.0")(lambda ctx: "from the registry")
        yield connect(to=server)


@pytest.mark.parametrize("wasm", [programs.SUCCESS, programs.LARGE], ids=["one chunk", "three chunks"])
def test_the_answer_to_an_upload_is_the_hash(client: RawClient, wasm: bytes) -> None:
    program_hash = blake3_hex(wasm)
    assert client.exists(program_hash) == (True, "false")
    answer = client.upload_program(wasm)
    assert (answer["type"], answer["successful"], answer["result"]) == ("response", True, program_hash)
    assert client.exists(program_hash) == (True, "true")
    assert list(client.events(client.launch_hash(program_hash))) == [(COMPLETED, "")]


def test_programs_are_shared_by_all_users_and_may_be_uploaded_again(connect: Connect) -> None:
    program_hash = connect("alice").upload_program(programs.SUCCESS)["result"]
    bob = connect("bob")
    assert bob.exists(program_hash) == (True, "true")
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


what_cannot_be_compiled = pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"no module",
        b"\0asm\1\0\0\0garbage",
        b"\0asm\x0d\0\1\0garbage",
        b'(module (func (export "_start")))',
        programs.LARGE[:-1],
        programs.SUCCESS,
    ],
    ids=["empty", "a byte", "text", "garbled", "garbled component", "text form", "cut", "core module"],
)


@what_cannot_be_compiled
def test_what_cannot_be_compiled_costs_the_connection(connect: Connect, data: bytes) -> None:
    with LocalServer(core_modules=False) as server:
        client = connect(to=server)
        for chunk in chunks(data):
            client.send("upload_program", corr_id=50, program_hash=blake3_hex(data), **chunk)
        client.assert_closed()
        assert connect(to=server).exists(blake3_hex(data)) == (True, "false")


@what_cannot_be_compiled
def test_by_name_what_cannot_be_compiled_is_refused_but_keeps_the_name(connect: Connect, data: bytes) -> None:
    refusal = "Failed to compile WASM: failed to parse WebAssembly module"
    with LocalServer(variant="name", core_modules=False) as server:
        client = connect(to=server)
        for _ in range(2):
            answer = client.upload_program(data, manifest=MANIFEST)
            assert (answer["successful"], answer["result"]) == (False, refusal)
            assert client.exists("test/hello@1.0.0") == (True, "true")
            launched = launch_named(client, "test/hello@1.0.0")
            assert (launched["successful"], launched["message"]) == (False, refusal)


def launch_named(client: RawClient, inferlet: str) -> dict[str, Any]:
    return client.request(
        "launch_instance", program_hash="ignored", inferlet=inferlet, arguments=["arg"], detached=False
    )


def test_by_name(named: RawClient) -> None:
    program_hash = blake3_hex(programs.HELLO)
    assert named.exists("test/hello@1.0.0") == (True, "false")
    answer = named.upload_program(programs.HELLO, manifest=MANIFEST)
    assert (answer["successful"], answer["result"]) == (True, program_hash)
    assert named.exists("test/hello@1.0.0") == (True, "true")
    assert named.exists(f"test/hello@1.0.0#{program_hash}") == (True, "true")
    assert named.exists("test/hello@1.0.0#" + "0" * 64) == (True, "false")
    assert named.exists("test/hello@1.0.1") == (True, "false")
    instance_id = launch_named(named, "test/hello@1.0.0")["message"]
    assert named.output(instance_id) == ("hello\narg\n", "", (COMPLETED, ""))


def test_by_name_a_bare_hash_is_no_name(named: RawClient) -> None:
    named.upload_program(programs.HELLO, manifest=MANIFEST)
    assert named.exists(blake3_hex(programs.HELLO)) == (True, "false")


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
    ],
    ids=["empty", "no TOML", "no package", "no version", "no namespace", "number"],
)
def test_by_name_a_manifest_must_name_the_program(named: RawClient, manifest: str) -> None:
    assert not named.upload_program(programs.HELLO, manifest=manifest)["successful"]
    assert named.upload_program(programs.HELLO, manifest=MANIFEST)["successful"]


def test_a_blob_is_for_the_attached_only(connect: Connect, sizes: str) -> None:
    owner, other = connect("alice"), connect("alice")
    instance_id = owner.launch(sizes)
    for target, result in (
        (instance_id, f"Instance not owned by client: {instance_id}"),
        ("nonsense", "Invalid instance_id: nonsense"),
    ):
        answer = other.upload_blob(target, b"abc")
        assert (answer["successful"], answer["result"]) == (False, result)
    detached = owner.launch(sizes, detached=True)
    assert owner.upload_blob(detached, b"abc")["result"].startswith("Instance not owned by client: ")


# Authentication


ED25519 = ed25519.Ed25519PrivateKey.generate()


def test_the_challenge_can_come_in_a_message_of_its_own(connect: Connect) -> None:
    with LocalServer(users={"alice": public_line(ED25519)}, challenge_message=True) as server:
        client = connect(None, to=server)
        answer = client.request("identification", username="alice", corr_id=7)
        challenge = base64.b64decode(answer.pop("challenge"), validate=True)
        assert answer == {"type": "challenge", "corr_id": 7}
        assert client.prove(ED25519.sign(challenge))


@pytest.mark.parametrize("expected", ["secret", None])
def test_a_wrong_token_is_refused_after_a_second_and_the_server_hangs_up(
    connect: Connect, expected: str | None
) -> None:
    with LocalServer(internal_token=expected) as server:
        client = connect(None, to=server)
        started = time.monotonic()
        answer = client.request("internal_authenticate", token="guess")
        assert time.monotonic() - started >= 1
        assert not answer["successful"]
        client.assert_closed()


def test_the_delay_of_a_refusal_does_not_delay_the_servers_end(connect: Connect) -> None:
    with LocalServer(internal_token="secret") as server:
        client = connect(None, to=server)
        client.send("internal_authenticate", corr_id=1, token="guess")
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "message",
    [
        {"type": "ping"},
        {"type": "list_instances"},
        {"type": "query", "subject": "backend_stats", "record": ""},
        {"type": "launch_instance_from_registry", "inferlet": "x", "arguments": [], "detached": False},
        {"type": "signal_instance", "instance_id": "x", "message": ""},
    ],
    ids=lambda message: message["type"],
)
@pytest.mark.parametrize("users", [None, {}])
def test_the_server_hangs_up_on_the_unauthenticated(
    connect: Connect, users: dict[str, str] | None, message: dict[str, object]
) -> None:
    with LocalServer(users) as server:
        client = connect(None, to=server)
        client.send(corr_id=1, kind=message["type"], **{k: v for k, v in message.items() if k != "type"})
        client.assert_closed()


def test_what_it_cannot_decode_it_ignores_from_the_unauthenticated_too(connect: Connect) -> None:
    client = connect(None)
    client.send("auth_identify", corr_id=1, username="alice")
    client.send_bytes(b"\xc1")
    client.socket.send("text")
    answer = client.request("identification", username="alice", corr_id=2)
    assert (answer["type"], answer["corr_id"]) == ("response", 2)


@pytest.mark.parametrize(
    "message",
    [
        {"kind": "identification", "username": "bob"},
        {"kind": "signature", "signature": ""},
        {"kind": "internal_authenticate", "token": "wrong"},
    ],
    ids=lambda message: message["kind"],
)
def test_once_is_enough(client: RawClient, message: dict[str, str]) -> None:
    assert client.request(**message)["result"] == "Already authenticated"
    client.assert_unanswered()


# Lists


@pytest.mark.parametrize(("protocol", "listed"), [("0.2", 52), ("0.2-names", 50)])
def test_by_name_the_50_youngest_are_listed(protocol: str, listed: int) -> None:
    with LocalServer(protocol=protocol) as server, RawClient(server.uri) as client:
        server.program("waiting")(lambda ctx: ctx.receive())
        launched = [client.launch("waiting") for _ in range(52)]
        assert list(client.statuses()) == launched[-listed:]
