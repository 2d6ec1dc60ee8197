"""Programs on the process protocol."""

from __future__ import annotations

import json

import pytest
from blake3 import blake3

from pie_sync import (
    Event,
    LaunchError,
    PieClient,
    UploadError,
)
from tests.connection.process import (
    CHUNK,
    PATIENCE,
    every_protocol,
    manifest_of,
    stdout_of,
)
from tests.testing import programs

#: Begins as WebAssembly does.
BROKEN = b"\0asm and no program"


class TestPrograms:
    def test_without_a_manifest(self, client, other, requests):
        program_hash = client.upload_program(programs.HELLO)
        assert program_hash == blake3(programs.HELLO).hexdigest()
        for anybody in (client, other):
            assert anybody.program_exists(program_hash)
            assert not anybody.program_exists("0" * 64)
            assert stdout_of(anybody.launch_instance(program_hash, ["--n", "5"])).endswith('\n{"n": 5}\n')

    def test_with_a_manifest(self, client, other, is_0_5):
        program_hash = client.upload_program(programs.HELLO, manifest=manifest_of("hello", "1.2.3"))
        assert program_hash == blake3(programs.HELLO).hexdigest()
        for anybody in (client, other):
            assert anybody.program_exists(program_hash)
            assert stdout_of(anybody.launch_instance(program_hash)).endswith("\n{}\n")
            for name in ("hello@1.2.3", "hello") if is_0_5 else ("hello@1.2.3",):
                assert stdout_of(anybody.launch_instance_from_registry(name)).endswith("\n{}\n")

    def test_a_manifest_from_a_file(self, client, tmp_path):
        path = tmp_path / "Pie.toml"
        path.write_text(manifest_of("hello"))
        client.upload_program(programs.HELLO, manifest=path)
        assert stdout_of(client.launch_instance_from_registry("hello@1.0.0")).endswith("\n{}\n")

    @pytest.mark.parametrize("manifest", [None, manifest_of("hello")], ids=["by hash", "by name"])
    def test_the_same_bytes_twice_are_free(self, client, other, requests, manifest):
        first = client.upload_program(programs.HELLO, manifest=manifest)
        requests.clear()
        seen = []
        for anybody in (client, other):
            again = anybody.upload_program(
                programs.HELLO, manifest=manifest, progress=lambda sent, total: seen.append((sent, total))
            )
            assert again == first
        assert "add_program" not in requests.messages
        assert set(seen) == {(len(programs.HELLO), len(programs.HELLO))}

    def test_other_bytes_under_a_taken_name(self, client, other):
        manifest = manifest_of("tool")
        client.upload_program(programs.HELLO, manifest=manifest)
        for anybody in (client, other):
            with pytest.raises(UploadError, match=r"tool@1\.0\.0 is taken by other bytes"):
                anybody.upload_program(programs.SUCCESS, manifest=manifest)
            assert stdout_of(anybody.launch_instance_from_registry("tool@1.0.0")).endswith("\n{}\n")
        other.upload_program(programs.SUCCESS, manifest=manifest, overwrite=True)
        assert stdout_of(other.launch_instance_from_registry("tool@1.0.0")) == ""
        with PieClient(client.server_uri) as third:
            third.authenticate("alice")
            assert stdout_of(third.launch_instance_from_registry("tool@1.0.0")) == ""
            with pytest.raises(UploadError, match="taken by other bytes"):
                third.upload_program(programs.ECHO, manifest=manifest)
            third.upload_program(programs.SUCCESS, manifest=manifest)  # what is there by now
            third.upload_program(programs.HELLO, manifest=manifest, overwrite=True)
            assert stdout_of(third.launch_instance_from_registry("tool@1.0.0")).endswith("\n{}\n")
        with PieClient(client.server_uri) as fourth:
            fourth.authenticate("alice")
            assert stdout_of(fourth.launch_instance_from_registry("tool@1.0.0")) == "tool@1.0.0\n{}\n"
        client.upload_program(programs.HELLO, manifest=manifest_of("tool", "1.0.1"))  # another version

    def test_a_hash_means_its_bytes_whatever_becomes_of_the_name(self, client, other):
        manifest = manifest_of("tool")
        program_hash = client.upload_program(programs.HELLO, manifest=manifest)
        other.upload_program(programs.SUCCESS, manifest=manifest, overwrite=True)
        for anybody in (client, other):
            assert stdout_of(anybody.launch_instance(program_hash)).endswith("\n{}\n")

    def test_a_name_means_to_each_client_what_it_uploaded_itself(self, client, other, server):
        manifest = manifest_of("tool")
        client.upload_program(programs.HELLO, manifest=manifest)
        other.upload_program(programs.SUCCESS, manifest=manifest, overwrite=True)
        with PieClient(server.uri) as third:
            third.authenticate("alice")
            third.upload_program(programs.HELLO, manifest=manifest)  # free, since its twin is there
            for anybody, printed in ((client, True), (other, False), (third, True)):
                for _ in range(2):
                    launched = anybody.launch_instance_from_registry("tool@1.0.0")
                    assert bool(stdout_of(launched)) == printed
                assert bool(anybody.run("tool@1.0.0").stdout) == printed
                [mapped] = anybody.map("tool@1.0.0", [[]])
                assert bool(mapped.stdout) == printed

    def test_one_that_uploaded_nothing_gets_what_is_there(self, client, other):
        manifest = manifest_of("tool")
        client.upload_program(programs.HELLO, manifest=manifest)
        client.upload_program(programs.SUCCESS, manifest=manifest, overwrite=True)
        assert stdout_of(other.launch_instance_from_registry("tool@1.0.0")) == ""

    def test_the_same_bytes_under_two_names_are_launched_by_those_names(self, client, other):
        for name in ("one", "two"):
            client.upload_program(programs.HELLO, manifest=manifest_of(name))
        for anybody in (client, other):
            for name in ("one", "two"):
                launched = anybody.launch_instance_from_registry(f"{name}@1.0.0")
                assert stdout_of(launched) == f"{name}@1.0.0\n{{}}\n"

    def test_a_trial_without_a_manifest_does_not_make_a_taken_name_ours(self, client, other):
        other.upload_program(programs.SUCCESS, manifest=manifest_of("tool"))
        client.upload_program(programs.HELLO)
        with pytest.raises(UploadError, match="taken by other bytes"):
            client.upload_program(programs.HELLO, manifest=manifest_of("tool"))

    def test_after_an_upload_that_was_given_up(self, client):
        program = programs.module('(func (export "_start")) (@custom "padding" "' + "x" * (2 * CHUNK) + '")')

        def give_up(sent: int, total: int) -> None:
            raise KeyError(sent)

        with pytest.raises(KeyError):
            client.upload_program(program, progress=give_up)
        assert not client.program_exists(blake3(program).hexdigest())
        program_hash = client.upload_program(program)
        assert client.launch_instance(program_hash).wait(PATIENCE).event is Event.Completed

    def test_a_name_that_somebody_else_has_taken(self, server, client):
        server.program("tool@1.0.0")(lambda context: "from elsewhere")
        with pytest.raises(UploadError, match="taken"):
            client.upload_program(programs.HELLO, manifest=manifest_of("tool"))
        assert client.launch_instance_from_registry("tool@1.0.0").wait(PATIENCE).message == "from elsewhere"

    def test_a_name_that_can_not_be_asked_for(self, client):
        with pytest.raises(UploadError, match="expected 'name@major.minor.patch'"):
            client.upload_program(programs.HELLO, manifest=manifest_of("tool", "1"))

    def test_what_is_no_webassembly_is_not_sent(self, client):
        with pytest.raises(UploadError, match="is no WebAssembly: .*nothing was sent"):
            client.upload_program(b"no program")
        assert not client.program_exists(blake3(b"no program").hexdigest())

    def test_what_can_not_be_compiled(self, client, other):
        with pytest.raises(UploadError, match="Failed to compile WASM"):
            client.upload_program(BROKEN)
        # The server keeps it, and says so: to launch it fails with the same text.
        assert client.upload_program(BROKEN) == blake3(BROKEN).hexdigest()
        for anybody in (client, other):
            assert anybody.program_exists(blake3(BROKEN).hexdigest())
            with pytest.raises(LaunchError, match="Failed to compile WASM"):
                anybody.launch_instance(blake3(BROKEN).hexdigest())
        with pytest.raises(UploadError, match="Failed to compile WASM"):
            client.upload_program(BROKEN, overwrite=True)

    def test_what_can_not_be_compiled_does_not_take_its_name(self, client):
        manifest = manifest_of("tool")
        for _ in range(2):
            with pytest.raises(UploadError, match="Failed to compile WASM"):
                client.upload_program(BROKEN, manifest=manifest)
        client.upload_program(programs.SUCCESS, manifest=manifest)
        assert stdout_of(client.launch_instance_from_registry("tool@1.0.0")) == ""

    def test_a_program_of_several_chunks(self, client):
        padding = '(@custom "padding" "' + "x" * (2 * CHUNK) + '")'
        program = programs.module(f'(func (export "_start")) {padding}')
        seen = []
        program_hash = client.upload_program(program, progress=lambda sent, total: seen.append(sent))
        assert seen == [CHUNK, 2 * CHUNK, len(program)]
        assert client.launch_instance(program_hash).wait(PATIENCE).event is Event.Completed

    @pytest.mark.parametrize("name", ["nope", "nope@0.1.0", "echo@9.9.9", "echo@latest", "mine/echo"])
    def test_an_unknown_name_can_not_be_launched(self, client, name):
        with pytest.raises(LaunchError, match=r"installed|Failed to download manifest|Invalid program identifier"):
            client.launch_instance_from_registry(name)

    def test_an_unknown_hash_can_not_be_launched(self, client):
        with pytest.raises(LaunchError, match="is not installed"):
            client.launch_instance("0" * 64)


class TestArguments:
    @every_protocol
    @pytest.mark.parametrize("args", [["--max-tokens", "5", "--greedy"], {"max_tokens": 5, "greedy": True}])
    def test_a_list_or_a_mapping_on_every_protocol(self, client, profile, args):
        given = json.loads(client.launch_instance_from_registry("given@0.1.0", args).wait(PATIENCE).message)
        if profile == "instance":
            assert given == [["--max-tokens", "5", "--greedy"], None]
        else:
            assert given == [['{"max_tokens": 5, "greedy": true}'], {"max_tokens": 5, "greedy": True}]

    @pytest.mark.parametrize(
        ("args", "value"),
        [
            ([], {}),
            ({}, {}),
            (["x", "2"], {"_positional": ["x", 2]}),
            ({"deep": [{"é": None}]}, {"deep": [{"é": None}]}),
        ],
    )
    def test_more_of_them(self, client, args, value):
        given = json.loads(client.launch_instance_from_registry("given@0.1.0", args).wait(PATIENCE).message)
        assert given[1] == value

    def test_what_json_can_not_say(self, client, requests):
        for args, error in (({"x": {1}}, TypeError), ({"x": float("nan")}, ValueError)):
            with pytest.raises(error, match="JSON"):
                client.launch_instance_from_registry("given@0.1.0", args)
        assert "launch_process" not in requests.messages
