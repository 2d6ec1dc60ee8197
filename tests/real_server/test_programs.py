"""Programs on the real server: uploading them, asking for them, and launching them by hash and by name."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import wasmtime
from blake3 import blake3

from pie_sync import Event, LaunchError, PieClient, UploadError
from pie_sync._protocol.program_names import content_version

from . import harness, inferlets
from .conftest import start_server
from .inferlets import Inferlet

LIMIT = inferlets.EVENT_LIMIT
CHUNK = 256 * 1024


@pytest.fixture(scope="module")
def real_server() -> Iterator[harness.RealServer]:
    """A server of its own, on which nothing but these tests leaves programs."""
    yield from start_server()


@pytest.fixture(scope="module")
def uri(real_server: harness.RealServer) -> str:
    with PieClient(real_server.uri) as client:
        inferlets.install(client)
    return real_server.uri


@pytest.fixture
def client(uri: str) -> Iterator[PieClient]:
    with PieClient(uri) as client:
        client.authenticate("alice")
        yield client


@pytest.fixture
def other(uri: str) -> Iterator[PieClient]:
    """Another connection: it knows nothing of what ``client`` has uploaded."""
    with PieClient(uri) as client:
        client.authenticate("bob")
        yield client


@pytest.fixture
def name() -> str:
    """A name that no program has."""
    return f"program-{uuid4().hex}"


def says(text: str, padding: int = 0) -> Inferlet:
    """A program that returns a text, as long a program as you like."""
    return Inferlet("says", f"def says(**given):\n    return {text!r}\n# {'.' * padding}\n")


def component() -> bytes:
    """The echoing component, in bytes of which no server has heard: it ends with a custom section."""
    note = uuid4().bytes
    return bytes(wasmtime.wat2wasm(inferlets.ECHO_COMPONENT)) + bytes([0, 2 + len(note), 1]) + b"n" + note


def returned(client: PieClient, program: str, arguments: object = ()) -> str:
    """What a program returns, launched by its name, or by its hash."""
    is_hash = len(program) == 64 and "-" not in program
    launch = client.launch_instance if is_hash else client.launch_instance_from_registry
    completed = inferlets.played(
        client,
        lambda: launch(program, arguments),  # type: ignore[arg-type]
        lambda instance: instance.wait(LIMIT),
    )
    assert completed.event is Event.Completed, completed
    message: str = completed.message
    return message


class TestWithoutManifest:
    def test_is_launched_by_its_hash_from_any_connection(self, client: PieClient, other: PieClient):
        program = component()
        program_hash = blake3(program).hexdigest()
        assert not client.program_exists(program_hash)
        assert client.upload_program(program) == program_hash
        for each in (client, other):
            assert each.program_exists(program_hash)
            assert returned(each, program_hash, {"x": 1}) == '{"x": 1}'
            assert returned(each, program_hash, ["--tokens", "5"]) == '{"tokens": 5}'

    def test_from_a_path_or_a_file(self, client: PieClient, tmp_path: Path):
        path = tmp_path / "echo.wasm"
        path.write_bytes(component())
        assert returned(client, client.upload_program(path)) == "{}"
        program = component()
        assert returned(client, client.upload_program(io.BytesIO(program))) == "{}"

    def test_what_is_no_component_is_refused(self, client: PieClient):
        with pytest.raises(UploadError, match="is no WebAssembly: .*nothing was sent"):
            client.upload_program(b"garbage")
        with pytest.raises(UploadError, match="Failed to compile WASM"):
            client.upload_program(wasmtime.wat2wasm("(module)"))
        with pytest.raises(LaunchError):
            client.launch_instance(blake3(b"garbage").hexdigest())

    def test_what_was_refused_is_kept_and_can_not_be_launched(self, client: PieClient, other: PieClient):
        garbage = b"\0asm" + uuid4().bytes
        with pytest.raises(UploadError, match="Failed to compile WASM"):
            client.upload_program(garbage)
        for each in (client, other):
            assert each.program_exists(blake3(garbage).hexdigest())
            with pytest.raises(LaunchError, match="Failed to compile WASM"):
                each.launch_instance(blake3(garbage).hexdigest())
        with pytest.raises(UploadError, match="Failed to compile WASM"):
            client.upload_program(garbage, overwrite=True)

    def test_it_is_all_that_is_left_on_the_server(self, real_server: harness.RealServer, client: PieClient):
        before = real_server.programs()
        program = component()
        version = content_version(client.upload_program(program))
        client.upload_program(program)
        assert real_server.programs() - before == {f"pie-sync@{version}"}


class TestWithManifest:
    def test_is_launched_by_its_name_and_by_its_hash(self, client: PieClient, other: PieClient, name: str):
        program = says(name)
        program_hash = client.upload_program(program.source.encode(), manifest=program.manifest(name))
        for each in (client, other):
            assert each.program_exists(program_hash)
            assert returned(each, f"{name}@1.0.0") == name
            assert returned(each, name) == name
            assert returned(each, program_hash) == name

    def test_from_paths(self, client: PieClient, name: str, tmp_path: Path):
        program, manifest = tmp_path / "program.py", tmp_path / "Pie.toml"
        program.write_text(says(name).source)
        manifest.write_text(says(name).manifest(name))
        for given in (manifest, str(manifest)):
            assert returned(client, client.upload_program(program, manifest=given)) == name

    def test_a_component(self, client: PieClient, other: PieClient, name: str):
        manifest = f'[package]\nname = "{name}"\nversion = "0.1.0"\n'
        client.upload_program(component(), manifest=manifest)
        assert returned(other, f"{name}@0.1.0", {"a": [1]}) == '{"a": [1]}'

    def test_a_bare_name_is_the_highest_version(self, client: PieClient, other: PieClient, name: str):
        for version in ("0.9.0", "0.10.0", "0.2.0"):
            program = says(version)
            client.upload_program(program.source.encode(), manifest=program.manifest(name, version))
        assert returned(client, name) == returned(other, name) == "0.10.0"
        assert returned(other, f"{name}@0.2.0") == "0.2.0"

    @pytest.mark.parametrize("first", ["9", "A"])
    def test_names(self, client: PieClient, name: str, first: str):
        program = says(name)
        client.upload_program(program.source.encode(), manifest=program.manifest(f"{first}_{name}"))
        assert returned(client, f"{first}_{name}@1.0.0") == name

    @pytest.mark.parametrize(
        ("name", "version"),
        [
            ("std/name", "1.0.0"),
            ("a.b", "1.0.0"),
            ("ä", "1.0.0"),
            ("a b", "1.0.0"),
            ("-a", "1.0.0"),
            ("a", "1.0"),
            ("a", "1.0.0-rc.1"),
            ("a", "latest"),
        ],
    )
    def test_names_that_are_refused(self, client: PieClient, name: str, version: str):
        program = says(uuid4().hex)
        with pytest.raises(UploadError, match="expected 'name@major.minor.patch'"):
            client.upload_program(program.source.encode(), manifest=program.manifest(name, version))
        assert not client.program_exists(blake3(program.source.encode()).hexdigest())


class TestAgain:
    def test_the_same_bytes_are_not_sent_again(self, client: PieClient, other: PieClient, name: str):
        program = says(name, padding=2 * CHUNK)
        source, manifest = program.source.encode(), program.manifest(name)
        size = len(source)
        sent: list[tuple[int, int]] = []

        def progress(*numbers: int) -> None:
            sent.append(numbers)  # type: ignore[arg-type]

        client.upload_program(source, manifest=manifest, progress=progress)
        assert sent == [(CHUNK, size), (2 * CHUNK, size), (size, size)]
        for each in (client, other):
            sent.clear()
            each.upload_program(source, manifest=manifest, progress=progress)
            assert sent == [(size, size)]

    def test_other_bytes_under_a_taken_name_are_refused(self, client: PieClient, other: PieClient, name: str):
        old, new = says("old " + name), says("new " + name)
        client.upload_program(old.source.encode(), manifest=old.manifest(name))
        for each in (client, other):
            with pytest.raises(UploadError, match=f"the name {name}@1.0.0 is taken by other bytes"):
                each.upload_program(new.source.encode(), manifest=new.manifest(name))
            assert returned(each, name) == "old " + name
            assert not each.program_exists(blake3(new.source.encode()).hexdigest())

    def test_overwrite_replaces_them(self, client: PieClient, other: PieClient, name: str):
        old, new = says("old " + name), says("new " + name)
        client.upload_program(old.source.encode(), manifest=old.manifest(name))
        new_hash = other.upload_program(new.source.encode(), manifest=new.manifest(name), overwrite=True)
        for each in (client, other):
            assert returned(each, new_hash) == "new " + name
            each.upload_program(new.source.encode(), manifest=new.manifest(name))
            with pytest.raises(UploadError, match="is taken by other bytes"):
                each.upload_program(says("third").source.encode(), manifest=old.manifest(name))
        with PieClient(client.server_uri) as third:
            assert returned(third, name) == "new " + name

    def test_a_client_launches_what_it_uploaded_by_that_name(self, client: PieClient, other: PieClient, name: str):
        old, new = says("old " + name), says("new " + name)
        client.upload_program(old.source.encode(), manifest=old.manifest(name))
        other.upload_program(new.source.encode(), manifest=new.manifest(name), overwrite=True)
        assert returned(client, f"{name}@1.0.0") == "old " + name
        assert returned(other, f"{name}@1.0.0") == "new " + name

    def test_what_is_left_on_the_server(self, real_server: harness.RealServer, client: PieClient, name: str):
        before = real_server.programs()
        contents = [says("one " + name), says("two " + name)]
        for program in contents * 5:
            client.upload_program(program.source.encode(), manifest=program.manifest(name), overwrite=True)
        versions = [content_version(blake3(program.source.encode()).hexdigest()) for program in contents]
        left = {f"{name}@1.0.0", *(f"pie-sync-named@{version}" for version in versions)}
        assert real_server.programs() - before == left

    def test_and_back_again(self, client: PieClient, other: PieClient, name: str):
        programs = [says("one " + name), says("two " + name)]
        for turn in range(4):
            program = programs[turn % 2]
            client.upload_program(program.source.encode(), manifest=program.manifest(name), overwrite=True)
            assert returned(other, name) == returned(client, name) == ("one ", "two ")[turn % 2] + name

    def test_a_hash_means_these_bytes_whatever_became_of_the_name(
        self, client: PieClient, other: PieClient, name: str
    ):
        old, new = says("old " + name), says("new " + name)
        old_hash = client.upload_program(old.source.encode(), manifest=old.manifest(name))
        client.upload_program(new.source.encode(), manifest=new.manifest(name), overwrite=True)
        assert returned(other, old_hash) == "old " + name
        assert returned(client, old_hash) == "old " + name

    def test_what_another_kind_of_client_uploaded_counts_as_other_bytes(
        self, real_server: harness.RealServer, client: PieClient, name: str, tmp_path: Path
    ):
        program = says(name)
        script = tmp_path / "upload.py"
        script.write_text(
            "import asyncio, json, sys\n"
            "from pie_client import PieClient\n"
            "async def main(uri, source, manifest):\n"
            "    async with PieClient(uri) as client:\n"
            "        await client.authenticate('carol')\n"
            "        await client.install_program_bytes(source.encode(), manifest)\n"
            "        print(json.dumps('done'))\n"
            "asyncio.run(main(*sys.argv[1:]))\n"
        )
        real_server.official(script, program.source, program.manifest(name))
        assert returned(client, name) == name
        with pytest.raises(UploadError, match="or by bytes that something else than pie-sync uploaded"):
            client.upload_program(program.source.encode(), manifest=program.manifest(name))
        client.upload_program(program.source.encode(), manifest=program.manifest(name), overwrite=True)
        client.upload_program(program.source.encode(), manifest=program.manifest(name))


class TestUnknown:
    def test_by_hash(self, client: PieClient):
        assert not client.program_exists("ab" * 32)
        with pytest.raises(LaunchError, match="is not installed"):
            client.launch_instance("ab" * 32)

    @pytest.mark.parametrize(
        ("unknown", "reason"),
        [
            ("nobody", "no program named 'nobody' is installed"),
            ("nobody@1.0.0", "program nobody@1.0.0 is not installed"),
            ("talk@9.9.9", "program talk@9.9.9 is not installed"),
        ],
    )
    def test_by_name(self, client: PieClient, unknown: str, reason: str):
        for detached in (False, True):
            with pytest.raises(LaunchError, match=reason) as refusal:
                client.launch_instance_from_registry(unknown, detached=detached)
            assert refusal.value.request == "launch_instance_from_registry"
