"""What uploads cost and leave on a server of the process protocol, and components that export their own names."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import wasmtime
from blake3 import blake3

from pie_sync import InstanceFailed, LaunchError, PieClient, UploadError
from pie_sync._protocol.program_names import content_version
from pie_sync.batch import run_batch
from pie_sync.testing import LocalServer
from tests.cli.conftest import CommandLine
from tests.connection.process import CHUNK, PATIENCE, Requests, manifest_of, only_0_4, only_0_5
from tests.real_server.inferlets import ECHO_COMPONENT
from tests.testing import programs

NO_RUN = "No 'run' interface found"


def component(export: str, padding: int = 0) -> bytes:
    """The component that returns its arguments, with a run export of this name, and as long as you like."""
    text = ECHO_COMPONENT.replace("pie:inferlet/run@0.3.0", export)
    text = text.rstrip()[:-1] + f'(@custom "padding" "{"x" * padding}"))' if padding else text
    return bytes(wasmtime.wat2wasm(text))


HELLO = component("pie:hello/run")
HELLO_HASH = blake3(HELLO).hexdigest()

#: Without a manifest, and with one.
UNNAMED = f"pie-sync@{content_version(HELLO_HASH)}"
NAMED = f"pie-sync-named@{content_version(HELLO_HASH)}"


def left_behind(server: LocalServer) -> set[str]:
    """The programs of a server that no function of a test is."""
    catalog = server._core.catalog._registry._versions
    names = {f"{name}@{version}" for name, versions in catalog.items() for version in versions}
    return {name.removeprefix("std/") for name in names if not name.endswith("@0.1.0")}


def outcome(client: PieClient, program: str) -> str:
    """The text of the end of a program that was launched by its hash or by its name."""
    is_hash = len(program) == 64
    launch = client.launch_instance if is_hash else client.launch_instance_from_registry
    return launch(program).wait(PATIENCE).message


class TestCosts:
    """Requests beside the chunks, and programs left behind."""

    def upload(self, client: PieClient, requests: Requests, *args: object, **options: object) -> tuple[int, int]:
        """Upload; return how many questions were asked, and how many chunks were sent."""
        requests.clear()
        client.upload_program(*args, **options)  # type: ignore[arg-type]
        messages = requests.messages
        assert set(messages) <= {"check_program", "add_program"}
        return messages.count("check_program"), messages.count("add_program")

    def test_without_a_manifest(self, server, client, other, requests):
        assert self.upload(client, requests, programs.HELLO) == (1, 1)
        version = content_version(blake3(programs.HELLO).hexdigest())
        assert left_behind(server) == {f"pie-sync@{version}"}
        for _ in range(5):
            for anybody in (client, other):
                assert self.upload(anybody, requests, programs.HELLO) == (1, 0)
        assert left_behind(server) == {f"pie-sync@{version}"}

    def test_with_a_manifest(self, server, client, other, requests):
        manifest = manifest_of("tool")
        assert self.upload(client, requests, programs.HELLO, manifest=manifest) == (1, 2)
        version = content_version(blake3(programs.HELLO).hexdigest())
        assert left_behind(server) == {"tool@1.0.0", f"pie-sync-named@{version}"}
        for _ in range(5):
            for anybody in (client, other):
                assert self.upload(anybody, requests, programs.HELLO, manifest=manifest) == (2, 0)
        assert len(left_behind(server)) == 2

    def test_however_often_it_is_overwritten(self, server, client, requests):
        manifest = manifest_of("tool")
        for _ in range(30):
            for program in (programs.HELLO, programs.SUCCESS):
                costs = self.upload(client, requests, program, manifest=manifest, overwrite=True)
                assert costs == (1, 2)
        assert len(left_behind(server)) == 3

    def test_a_refusal(self, server, client, requests):
        self.upload(client, requests, programs.HELLO, manifest=manifest_of("tool"))
        before = left_behind(server)
        requests.clear()
        with pytest.raises(UploadError, match="taken by other bytes"):
            client.upload_program(programs.SUCCESS, manifest=manifest_of("tool"))
        assert requests.messages == ["check_program"] * 2
        assert left_behind(server) == before

    def test_a_file_that_is_run(self, server, client, other, requests, tmp_path):
        path = tmp_path / "hello.wasm"
        path.write_bytes(programs.HELLO)
        requests.clear()
        client.run(path, timeout=PATIENCE)
        assert requests.messages == ["check_program"] * 3 + ["add_program", "launch_process"]
        requests.clear()
        client.run(path, timeout=PATIENCE)
        assert requests.messages == ["check_program", "launch_process"]
        requests.clear()
        list(other.map(path, [[]] * 10))
        assert requests.messages == ["check_program"] * 2 + ["launch_process"] * 10
        assert len(left_behind(server)) == 1

    def test_an_upload_of_several_chunks(self, client, requests):
        program = component("pie:inferlet/run@0.3.0", padding=2 * CHUNK)
        assert self.upload(client, requests, program) == (1, 3)
        assert self.upload(client, requests, program) == (1, 0)

    def test_a_launch_by_hash(self, client, other, requests):
        program_hash = client.upload_program(programs.HELLO)
        for anybody, questions in ((client, 0), (other, 2), (other, 0)):
            requests.clear()
            outcome(anybody, program_hash)
            assert requests.messages == ["check_program"] * questions + ["launch_process"]

    def test_a_hash_that_is_not_there_is_not_launched(self, client, requests):
        for launch in (client.launch_instance, client.run, lambda unknown: list(client.map(unknown, [[]]))):
            requests.clear()
            with pytest.raises(LaunchError, match=f"program {HELLO_HASH} is not installed"):
                launch(HELLO_HASH)
            assert requests.messages == ["check_program"] * 2

    def test_an_upload_that_ends_between_its_two_programs(self, server, client, requests, monkeypatch):
        programs_of = client._manager.connection.programs
        send, sent = programs_of.send, []

        def send_one(*args: object, **options: object) -> None:
            if sent:
                raise KeyboardInterrupt
            sent.append(send(*args, **options))

        monkeypatch.setattr(programs_of, "send", send_one)
        with pytest.raises(KeyboardInterrupt):
            client.upload_program(programs.HELLO, manifest=manifest_of("tool"))
        monkeypatch.undo()
        requests_before = len(left_behind(server))
        assert requests_before == 1
        client.upload_program(programs.HELLO, manifest=manifest_of("tool"))
        assert "tool@1.0.0" in left_behind(server)


class TestComponents:
    @only_0_4
    def test_a_hash_is_enough_from_any_connection(self, server, client, other):
        assert client.upload_program(HELLO) == HELLO_HASH
        assert left_behind(server) == {UNNAMED}
        for anybody in (client, other):
            assert anybody.program_exists(HELLO_HASH)
            assert outcome(anybody, HELLO_HASH) != NO_RUN

    @only_0_4
    def test_also_of_one_with_a_manifest(self, server, client, other):
        client.upload_program(HELLO, manifest=manifest_of("hello"))
        assert left_behind(server) == {"hello@1.0.0", NAMED}
        for anybody in (client, other):
            assert outcome(anybody, HELLO_HASH) != NO_RUN
            assert outcome(anybody, "hello@1.0.0") != NO_RUN

    @only_0_4
    @pytest.mark.parametrize("manifest", [None, manifest_of("hello")], ids=["by hash", "by name"])
    def test_from_a_file_in_chunks(self, client, other, tmp_path, manifest):
        path = tmp_path / "hello.wasm"
        path.write_bytes(component("pie:hello/run", padding=2 * CHUNK))
        seen = []
        program_hash = client.upload_program(
            path, manifest=manifest, progress=lambda *numbers: seen.append(numbers)
        )
        assert program_hash == blake3(path.read_bytes()).hexdigest()
        assert seen[-1] == (seen[0][1], seen[0][1])
        assert len(seen) == 3
        assert outcome(other, program_hash) != NO_RUN

    @only_0_4
    def test_run_map_and_run_batch(self, server, client, tmp_path):
        path = tmp_path / "hello.wasm"
        path.write_bytes(HELLO)
        for program in (path, HELLO_HASH):
            assert client.run(program, check=False).message != NO_RUN
            for ended in client.map(program, [[]] * 2, return_exceptions=True):
                assert NO_RUN not in str(ended)
            with ThreadPoolExecutor(1) as executor:
                [ended] = run_batch(
                    server.uri, program, [[]], executor=executor, username="alice", return_exceptions=True
                )
                assert NO_RUN not in str(ended)
        assert left_behind(server) == {UNNAMED}

    @only_0_4
    def test_the_command(self, server, tmp_path):
        (tmp_path / "hello.wasm").write_bytes(HELLO)
        (tmp_path / "Pie.toml").write_text(manifest_of("hello"))
        pie = CommandLine(tmp_path, server.uri)
        upload = pie.output("upload", "hello.wasm", "--manifest", "Pie.toml")
        assert HELLO_HASH in upload
        for program in (HELLO_HASH, "hello@1.0.0", "hello.wasm"):
            done = pie("run", program)
            assert NO_RUN not in done.stdout + done.stderr
            assert "not installed" not in done.stderr
        (tmp_path / "Pie.toml").write_text(manifest_of("other"))
        done = pie("upload", "hello.wasm", "--manifest", "Pie.toml")
        assert done.returncode == 1
        assert "pie:hello/run" in done.stderr
        assert "'other'" in done.stderr

    @only_0_4
    def test_a_manifest_that_does_not_fit_is_told_before_the_upload(self, server, client, requests):
        requests.clear()
        with pytest.raises(UploadError, match=r"exports pie:hello/run, but its manifest has the name 'other'"):
            client.upload_program(HELLO, manifest=manifest_of("other"))
        assert requests.messages == []
        assert left_behind(server) == set()

    def test_one_for_0_5_is_sent_as_it_is(self, server, client, is_0_5):
        program = component("pie:inferlet/run@0.3.0")
        program_hash = client.upload_program(program, manifest=manifest_of("tool"))
        assert (outcome(client, program_hash) != NO_RUN) == is_0_5
        assert server._core.catalog.by_hash(program_hash) is not None  # these very bytes

    @only_0_5
    def test_one_for_0_4_is_sent_to_0_5_as_it_is(self, server, client):
        client.upload_program(HELLO, manifest=manifest_of("other"))
        assert server._core.catalog.by_hash(HELLO_HASH) is not None
        with pytest.raises(InstanceFailed, match=NO_RUN):
            client.run(HELLO_HASH)

    def test_a_component_that_is_cut_is_left_to_the_server(self, client):
        with pytest.raises(UploadError, match="Failed to compile WASM"):
            client.upload_program(HELLO[:-40])

    def test_a_component_without_a_run_export(self, client):
        program = bytes(wasmtime.wat2wasm("(component)"))
        for manifest in (None, manifest_of("nothing")):
            assert outcome(client, client.upload_program(program, manifest=manifest)) == NO_RUN
