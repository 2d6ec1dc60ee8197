"""Programs on the instance protocol."""

from __future__ import annotations

import io
import threading
import time

import pytest
from blake3 import blake3

from pie_sync import (
    Event,
    LaunchError,
    PieClient,
    PieConnectionError,
    RequestError,
    UploadError,
)
from pie_sync._connection import programs
from pie_sync.testing import LocalServer
from tests.old_process_server import old_process_server
from tests.programs import HELLO, HELLO_0_2, add_programs
from tests.scripted import Peer, connect, scripted_server, wait_for_close

CHUNK = 256 * 1024


def text_of(instance) -> str:
    return "".join(data for event, data in instance if event is Event.Stdout)


def leb128(number: int) -> bytes:
    """WebAssembly's encoding of sizes."""
    encoded = b""
    while number > 127:
        encoded += bytes((number & 127 | 128,))
        number >>= 7
    return encoded + bytes((number,))


@pytest.mark.parametrize("variant", ["hash", "name"])
class TestProgramsInBothVariants:
    @pytest.fixture
    def client(self, variant):
        with LocalServer(variant=variant) as server, PieClient(server.uri) as client:
            add_programs(server)
            client.authenticate("alice")
            yield client

    def test_upload_and_launch(self, client):
        program_hash = blake3(HELLO).hexdigest()
        assert not client.program_exists(program_hash)
        assert client.upload_program(HELLO) == program_hash
        assert client.program_exists(program_hash)
        assert client.program_exists(program_hash.upper())
        assert text_of(client.launch_instance(program_hash, ["Pie"])) == "Hello, Pie!\n"
        assert text_of(client.launch_instance(program_hash.upper(), ("Pie",))) == "Hello, Pie!\n"

    def test_an_unknown_program(self, client):
        with pytest.raises(LaunchError) as caught:
            client.launch_instance("ab" * 32)
        assert caught.value.request == "launch_instance"
        assert caught.value.reason
        assert isinstance(caught.value, RequestError)
        with pytest.raises(LaunchError):
            client.launch_instance_from_registry("no-such-program")

    def test_from_the_registry(self, client):
        for name in ("talk", "std/talk", "talk@latest"):
            assert client.launch_instance_from_registry(name, ["a", "b"]).wait(10).message == "a b"

    def test_exists_by_its_name(self, client):
        name = "tests/by-name@1.2.0"
        assert not client.program_exists(name)
        client.upload_program(HELLO, manifest='[package]\nname = "tests/by-name"\nversion = "1.2.0"\n')
        assert client.program_exists(name)
        assert not client.program_exists("tests/by-name@1.2.1")

    def test_bytes_that_are_no_program(self, client):
        for junk in (b"not WebAssembly", b"", b"\0as", b"(module)", io.BytesIO(b"junk")):
            with pytest.raises(UploadError, match="nothing was sent"):
                client.upload_program(junk)
        assert client.ping() > 0

    def test_bytes_that_do_not_compile(self, client, variant):
        if variant == "hash":
            with pytest.raises(PieConnectionError, match="when it can't compile the program"):
                client.upload_program(b"\0asm not WebAssembly")
        else:
            for _ in range(2):
                with pytest.raises(UploadError, match="Failed to compile WASM"):
                    client.upload_program(b"\0asm not WebAssembly")
            assert client.upload_program(HELLO)

    def test_the_component_of_the_examples(self, variant):
        with LocalServer(variant=variant, core_modules=False) as server, PieClient(server.uri) as client:
            client.authenticate("alice")
            result = client.launch_instance(client.upload_program(HELLO_0_2), ["Pie", "ü"]).wait(10, check=True)
            assert (result.stdout, result.message) == ("Hello, Pie!\nHello, ü!\n", "bye")


class TestUploads:
    def test_progress(self, client):
        # A custom section of WebAssembly may contain anything: this makes a program of any size.
        size = 3 * CHUNK
        section = b"\x00" + leb128(size + 5) + b"\x04junk" + bytes(size)
        program = HELLO + section
        calls = []
        client.upload_program(program, progress=lambda sent, total: calls.append((sent, total)))
        assert calls == [(min((n + 1) * CHUNK, len(program)), len(program)) for n in range(4)]

    def test_what_progress_raises_ends_the_upload_and_nothing_else(self, client):
        def give_up(sent, total):
            raise KeyError(sent)

        program = HELLO + b"\x00" + leb128(2 * CHUNK + 5) + b"\x04junk" + bytes(2 * CHUNK)
        with pytest.raises(KeyError):
            client.upload_program(program, progress=give_up)
        assert client.program_exists(client.upload_program(program))

    def test_from_files(self, client, tmp_path):
        path = tmp_path / "hello.wasm"
        path.write_bytes(HELLO)
        expected = blake3(HELLO).hexdigest()
        with open(path, "rb") as file:
            for source in (path, str(path), file, bytearray(HELLO), memoryview(HELLO)):
                assert client.upload_program(source) == expected
        with pytest.raises(FileNotFoundError):
            client.upload_program(tmp_path / "missing.wasm")

    def test_uploads_at_once_take_turns(self, client):
        programs = [
            HELLO + b"\x00" + leb128(CHUNK + 8) + b"\x04junk" + bytes(CHUNK) + b"%03d" % n for n in range(8)
        ]
        hashes, errors = {}, []

        def upload(program):
            try:
                hashes[program] = client.upload_program(program)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=upload, args=(program,)) for program in programs * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors
        assert hashes == {program: blake3(program).hexdigest() for program in programs}
        assert all(client.program_exists(value) for value in hashes.values())


class TestWhatIsMissingIsNotAskedOfARegistry:
    """Servers from 0.2.0 to 0.4 ask their registry over HTTP for what they lack: with the hash in the address."""

    @pytest.mark.parametrize("use", ["launch", "detached", "run", "map", "own name", "own name in map"])
    @pytest.mark.parametrize("generation", ["0.2.0", "0.4"])
    def test_a_program_that_only_pie_sync_can_have_named(self, generation, use):
        program_hash = "ab" * 32
        asked = []

        def script(peer: Peer) -> None:
            peer.authenticate()
            while True:
                request = peer.receive()
                asked.append(request["type"])
                assert request["type"] == "query"
                peer.respond(request, "false")

        def attempt(client: PieClient) -> None:
            client.authenticate("alice")
            name = f"pie-sync/{program_hash}@1.0.0" if generation == "0.2.0" else "pie-sync@1.2.3"
            with pytest.raises(LaunchError, match="is not installed"):
                if use in ("launch", "detached"):
                    client.launch_instance(program_hash, detached=use == "detached")
                elif use == "run":
                    client.run(program_hash)
                elif use == "map":
                    list(client.map(program_hash, [[]]))
                elif use == "own name":
                    client.launch_instance_from_registry(name)
                else:
                    list(client.map(name, [[]]))

        if generation == "0.2.0":
            with scripted_server(script) as uri, connect(uri) as client:
                attempt(client)
        else:
            with old_process_server() as server, connect(server.uri) as client:
                attempt(client)
            asked += [message["type"] for message in server.requests]
        assert not [kind for kind in asked if kind.startswith("launch")]

    def test_what_was_found_is_not_asked_for_again(self):
        asked = []

        def script(peer: Peer) -> None:
            peer.authenticate()
            for number in range(4):
                request = peer.receive()
                asked.append(request["type"])
                if request["type"] == "query":
                    peer.respond(request, "true")
                else:
                    peer.send(
                        type="instance_launch_result",
                        corr_id=request["corr_id"],
                        successful=True,
                        message=f"instance-{number}",
                    )
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            client.authenticate("alice")
            for _ in range(3):
                client.launch_instance("ab" * 32)
        assert asked == ["query", "launch_instance", "launch_instance", "launch_instance"]

    def test_a_server_that_can_t_tell_is_asked_to_launch(self):
        def script(peer: Peer) -> None:
            peer.authenticate()
            for _ in range(2):
                peer.respond(peer.receive(), "who knows", successful=False)
            peer.launch()
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            client.authenticate("alice")
            assert client.launch_instance("ab" * 32).id == "instance-1"


class TestANameOfItsOwnOnPie0_2_0:
    """A program that anybody uploaded with a manifest is launched by that name like other uploads."""

    def test_another_client_launches_it(self):
        """As the registry's, the server does not find it."""
        asked = []

        def script(peer: Peer) -> None:
            peer.authenticate()
            for number in range(4):
                request = peer.receive()
                asked.append(request)
                if request["type"] == "query":
                    peer.respond(request, "true" if request["record"] == "raw/same@1.0.0" else "false")
                    continue
                instance_id = f"instance-{number}"
                peer.send(
                    type="instance_launch_result", corr_id=request["corr_id"], successful=True, message=instance_id
                )
                peer.event(1, "done", instance_id)
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            client.authenticate("alice")
            assert client.run("raw/same@1.0.0", timeout=20).message == "done"
            client.launch_instance_from_registry("raw/same@1.0.0").wait(20)
            client.launch_instance_from_registry("std/text-completion").wait(20)
        kinds = [request["type"] for request in asked]
        assert kinds == ["query", "launch_instance", "launch_instance", "launch_instance_from_registry"]
        assert [request["inferlet"] for request in asked[1:3]] == ["raw/same@1.0.0"] * 2

    def test_what_is_of_the_registry_is_asked_for_now_and_then(self, monkeypatch):
        """Also by servers that name programs by their hash: they say that there is no such upload."""
        asked = []

        def script(peer: Peer) -> None:
            peer.authenticate()
            for number in range(6):
                request = peer.receive()
                asked.append(request["type"])
                if request["type"] == "query":
                    peer.respond(request, "false")
                else:
                    answer = {"successful": True, "message": f"instance-{number}"}
                    peer.send(type="instance_launch_result", corr_id=request["corr_id"], **answer)
            wait_for_close(peer)

        def launch(times: int) -> None:
            for _ in range(times):
                client.launch_instance_from_registry("std/text-completion@1.0.0")

        with scripted_server(script) as uri, connect(uri) as client:
            client.authenticate("alice")
            launch(3)
            monkeypatch.setattr(programs, "monotonic", lambda: time.monotonic() + programs._ASK_AGAIN)
            launch(1)
        assert asked == ["query", *["launch_instance_from_registry"] * 3, "query", "launch_instance_from_registry"]
