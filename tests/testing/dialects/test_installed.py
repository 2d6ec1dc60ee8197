"""Programs of the process protocol: how they are installed, what they are called, and which one a name means."""

from __future__ import annotations

from typing import Any

import pytest
import wasmtime

from pie_sync.testing import LocalServer
from tests.testing import programs
from tests.testing.conftest import Connect
from tests.testing.raw import CHUNK_SIZE, blake3_hex, chunks
from tests.testing.raw_process import ProcessClient, manifest_of


@pytest.fixture(params=["process", "process-0.5"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


INSTALLED = (True, "Program installed successfully")
NO_WASM = (False, "Failed to compile WASM: failed to parse WebAssembly module")
EMPTY_COMPONENT = b"\0asm\x0d\0\1\0"
NO_RUN = ("error", "No 'run' interface found")

only_0_5 = pytest.mark.parametrize("protocol", ["process-0.5"])
only_0_4 = pytest.mark.parametrize("protocol", ["process"])


def run(client: ProcessClient, inferlet: str, text: str = "{}") -> tuple[str, tuple[str, str]]:
    """(standard output, end) of a launch."""
    *printed, end = client.events(client.launch(inferlet, text))
    assert all(event == "stdout" for event, _ in printed)
    return "".join(value for _, value in printed), end


def test_a_module_is_installed_and_runs_with_its_input_as_its_argument(connect: Connect) -> None:
    client = connect("alice")
    assert client.check("hello", "1.2.3") == (True, "false")
    assert client.add(programs.HELLO, manifest_of("hello", "1.2.3")) == INSTALLED
    assert client.check("hello", "1.2.3") == (True, "true")
    assert client.check("hello", "1.2.4") == (True, "false")
    assert run(client, "hello@1.2.3", '{"a": "é"} ') == ('hello@1.2.3\n{"a": "é"} \n', ("return", ""))
    other = connect("bob")
    assert other.check("hello", "1.2.3") == (True, "true")
    assert run(other, "hello@1.2.3") == ("hello@1.2.3\n{}\n", ("return", ""))


def test_the_hashes_of_a_check_are_ignored(client: ProcessClient) -> None:
    client.add(programs.HELLO, manifest_of("hello"))
    for hashes in ({"wasm_hash": "0" * 64}, {"wasm_hash": None, "manifest_hash": 5}):
        assert client.ask("check_program", name="hello", version="1.0.0", **hashes) == (True, "true")


def test_a_failing_module_ends_with_an_error(client: ProcessClient) -> None:
    client.add(programs.FAILURE, manifest_of("failure"))
    events = list(client.events(client.launch("failure")))
    assert events == [("stdout", "out\n"), ("stderr", "err\n"), ("error", "exit code 3")]


def test_a_taken_name_is_not_touched_unless_told(client: ProcessClient) -> None:
    manifest = manifest_of("tool")
    client.add(programs.HELLO, manifest)
    for artifact in (programs.SUCCESS, programs.HELLO, b"no program at all"):
        assert client.add(artifact, manifest) == INSTALLED
        assert run(client, "tool")[0] == "tool@1.0.0\n{}\n"
    assert client.add(programs.SUCCESS, manifest, overwrite=True) == INSTALLED
    assert run(client, "tool") == ("", ("return", ""))


def test_a_running_process_keeps_its_program(client: ProcessClient) -> None:
    client.add(programs.ECHO, manifest_of("tool"))
    process_id = client.launch("tool")
    client.add(programs.SUCCESS, manifest_of("tool"), overwrite=True)
    client.signal(process_id, "hello")
    assert client.event() == ("stdout", "hello\n")


def test_the_empty_component_can_be_installed_but_not_run(client: ProcessClient) -> None:
    assert client.add(EMPTY_COMPONENT, manifest_of("nothing")) == INSTALLED
    assert client.check("nothing", "1.0.0") == (True, "true")
    assert run(client, "nothing") == ("", NO_RUN)


def component(export: str) -> bytes:
    """A component with one export, an interface that has nothing in it."""
    return bytes(wasmtime.wat2wasm(f'(component (instance $empty) (export "{export}" (instance $empty)))'))


@only_0_4
@pytest.mark.parametrize("version", ["", "@0.3.0"])
def test_before_0_5_a_component_runs_under_the_name_that_it_exports(client: ProcessClient, version: str) -> None:
    for name in ("hello", "other", "inferlet"):
        assert client.add(component(f"pie:hello/run{version}"), manifest_of(name)) == INSTALLED
        assert (run(client, name) == ("", NO_RUN)) == (name != "hello")
        assert client.check(name, "1.0.0") == (True, "true")
    client.add(component("inferlet:core/run"), manifest_of("core"))
    assert run(client, "core") == ("", NO_RUN)


@only_0_5
def test_on_0_5_all_components_export_the_same(client: ProcessClient) -> None:
    for export, runs in (
        ("pie:inferlet/run@0.3.0", True),
        ("pie:hello/run", False),
        ("pie:hello/run@0.3.0", False),
    ):
        assert client.add(component(export), manifest_of("hello"), overwrite=True) == INSTALLED
        assert (run(client, "hello") == ("", NO_RUN)) == (not runs)


@pytest.mark.parametrize(
    "artifact",
    [
        b"",
        b"\0",
        b"async def main(): pass",
        b"\0asm\1\0\0\0garbage",
        EMPTY_COMPONENT + b"\0\2\0",
        programs.LARGE[:-1],
    ],
    ids=["empty", "a byte", "script", "garbled", "a cut component", "cut"],
)
def test_what_cannot_be_compiled_is_refused_but_keeps_the_name(client: ProcessClient, artifact: bytes) -> None:
    script = manifest_of("tool") + '[runtime]\nlanguage = "python"\nentry = "main"\ncall = "kwargs"\n'
    for manifest in (manifest_of("tool"), script):
        assert client.add(artifact, manifest) == NO_WASM
    assert client.check("tool", "1.0.0") == (True, "true")
    assert client.ask("launch_process", inferlet="tool@1.0.0", input="{}", capture_outputs=True) == NO_WASM
    assert client.add(programs.SUCCESS, manifest_of("tool")) == NO_WASM
    assert client.add(programs.SUCCESS, manifest_of("tool"), overwrite=True) == INSTALLED
    assert run(client, "tool") == ("", ("return", ""))
    assert client.add(artifact, manifest_of("tool"), overwrite=True) == NO_WASM
    assert client.ask("launch_process", inferlet="tool@1.0.0", input="{}", capture_outputs=False) == NO_WASM


@only_0_5
def test_a_bare_name_may_mean_what_could_not_be_compiled(client: ProcessClient) -> None:
    client.add(programs.SUCCESS, manifest_of("tool", "1.0.0"))
    client.add(b"no program", manifest_of("tool", "2.0.0"))
    assert client.ask("launch_process", inferlet="tool", input="{}", capture_outputs=True) == NO_WASM
    assert run(client, "tool@1.0.0") == ("", ("return", ""))


@only_0_5
def test_other_refusals_leave_the_name_free(client: ProcessClient) -> None:
    assert not client.add(programs.SUCCESS, manifest_of("tool"), program_hash="0" * 64)[0]
    assert client.check("tool", "1.0.0") == (True, "false")


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "no toml",
        'name = "hello"\nversion = "1.0.0"',
        "package = 5",
        '[package]\nname = "hello"',
        '[package]\nversion = "1.0.0"',
        '[package]\nname = "hello"\nversion = 1',
    ],
    ids=["empty", "no TOML", "no package", "a number", "no version", "no name", "number as version"],
)
def test_a_manifest_must_name_the_program(client: ProcessClient, manifest: str) -> None:
    ok, result = client.add(programs.SUCCESS, manifest)
    assert not ok
    assert result.startswith("Invalid manifest: Failed to parse manifest TOML: ")


def add_chunk(client: ProcessClient, corr_id: int, index: int, total: int, data: bytes, **fields: Any) -> None:
    message = {
        "program_hash": blake3_hex(programs.LARGE),
        "manifest": manifest_of("large"),
        "force_overwrite": False,
        "chunk_index": index,
        "total_chunks": total,
        "chunk_data": data,
    }
    client.send("add_program", corr_id=corr_id, **{**message, **fields})


def refused(client: ProcessClient, corr_id: int, index: int, total: int, data: bytes = b"", **fields: Any) -> str:
    add_chunk(client, corr_id, index, total, data, **fields)
    answer = client.receive()
    assert (answer["corr_id"], answer["ok"]) == (corr_id, False)
    return str(answer["result"])


LARGE_CHUNKS = [chunk["chunk_data"] for chunk in chunks(programs.LARGE)]


def test_only_the_last_chunk_is_answered(client: ProcessClient) -> None:
    for index, data in enumerate(LARGE_CHUNKS[:-1]):
        add_chunk(client, 50, index, 3, data)
        client.assert_unanswered()
    add_chunk(client, 50, 2, 3, LARGE_CHUNKS[2])
    assert client.receive() == {"type": "response", "corr_id": 50, "ok": True, "result": INSTALLED[1]}
    assert run(client, "large")[1] == ("return", "")


@only_0_5
def test_errors_on_other_chunks_are_silent(client: ProcessClient) -> None:
    for index, total in ((1, 3), (5, 9)):
        add_chunk(client, 50, index, total, b"")
    add_chunk(client, 51, 0, 3, b"x")
    add_chunk(client, 51, 0, 3, b"x")
    add_chunk(client, 52, 0, 3, bytes(CHUNK_SIZE + 1))
    client.assert_unanswered()
    # All of these uploads are forgotten: what comes next is a first chunk.
    for corr_id in (50, 51, 52):
        assert refused(client, corr_id, 2, 3) == "First chunk index must be 0"


@only_0_5
def test_the_errors_of_last_chunks(client: ProcessClient) -> None:
    assert refused(client, 50, 2, 3) == "First chunk index must be 0"
    assert refused(client, 50, 3, 3) == "First chunk index must be 0"
    assert refused(client, 50, 5, 0) == "First chunk index must be 0"
    assert refused(client, 50, 0, 0) == "Upload must have at least one chunk"
    add_chunk(client, 50, 0, 3, LARGE_CHUNKS[0])
    assert refused(client, 50, 2, 3) == "Out-of-order chunk: expected 1, got 2"
    add_chunk(client, 50, 0, 3, LARGE_CHUNKS[0])
    assert refused(client, 50, 1, 2) == "Chunk count mismatch: expected 3, got 2"
    mismatch = f"Program hash mismatch: declared {blake3_hex(programs.LARGE)}, uploaded {blake3_hex(b'x')}"
    assert refused(client, 50, 0, 1, b"x") == mismatch
    assert refused(client, 50, 0, 1, b"x", manifest="no TOML") == mismatch
    assert client.add(programs.LARGE, manifest_of("large")) == INSTALLED


@only_0_5
def test_a_wrong_hash_is_refused_for_a_taken_name_too(client: ProcessClient) -> None:
    client.add(programs.HELLO, manifest_of("tool"))
    ok, result = client.add(programs.HELLO, manifest_of("tool"), program_hash="0" * 64)
    assert not ok
    assert result.startswith("Program hash mismatch: declared 0000")


def test_uploads_are_told_apart_by_their_correlation_id(client: ProcessClient) -> None:
    for index, data in enumerate(LARGE_CHUNKS):
        for corr_id in (50, 51):
            add_chunk(client, corr_id, index, 3, data, manifest=manifest_of(f"large-{corr_id}"))
    assert client.answer(50)["ok"]
    assert client.answer(51)["ok"]
    assert client.check("large-50", "1.0.0") == client.check("large-51", "1.0.0") == (True, "true")


def test_each_connection_has_its_own_uploads(connect: Connect) -> None:
    one, two = connect(), connect()
    add_chunk(one, 50, 0, 3, LARGE_CHUNKS[0])
    one.assert_unanswered()
    assert refused(two, 50, 2, 3) == "First chunk index must be 0"
    add_chunk(one, 50, 1, 3, LARGE_CHUNKS[1])
    add_chunk(one, 50, 2, 3, LARGE_CHUNKS[2])
    assert one.answer(50)["ok"]


def invalid(identifier: str) -> tuple[bool, str]:
    return False, f"Invalid program identifier '{identifier}': expected 'name@major.minor.patch'"


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("x", "0.1"),
        ("x", "1.2.3.4"),
        ("x", "1.2.3-rc"),
        ("x", ""),
        ("x", "latest"),
        ("é", "1.0.0"),
        ("-x", "1.0.0"),
        ("", "1.0.0"),
    ],
)
def test_odd_names_and_versions_can_not_be_asked_for_and_on_0_5_installed(
    client: ProcessClient, gateway: bool, name: str, version: str
) -> None:
    if name:
        answer = INSTALLED if gateway else invalid(f"{name}@{version}")
        assert client.add(programs.SUCCESS, manifest_of(name, version)) == answer
    assert client.check(name, version) == invalid(f"{name}@{version}")
    inferlet = f"{name}@{version}"
    assert client.ask("launch_process", inferlet=inferlet, input="{}", capture_outputs=True) == invalid(inferlet)


@only_0_5
@pytest.mark.parametrize("name", ["a/b", "../b", ""])
def test_some_names_can_not_be_installed(client: ProcessClient, name: str) -> None:
    assert client.add(programs.SUCCESS, manifest_of(name)) == (False, f"program {name}@1.0.0 is not installed")


@pytest.mark.parametrize("name", ["A-b_9", "x" * 70, "0"])
@pytest.mark.parametrize("version", ["0.10.2", f"{2**84}.{2**86}.0"], ids=["short", "long"])
def test_names_that_will_do(client: ProcessClient, name: str, version: str) -> None:
    assert client.add(programs.SUCCESS, manifest_of(name, version)) == INSTALLED
    assert client.check(name, version) == (True, "true")
    assert run(client, f"{name}@{version}") == ("", ("return", ""))


@only_0_4
def test_before_0_5_there_are_no_bare_names(client: ProcessClient) -> None:
    client.add(programs.SUCCESS, manifest_of("tool"))
    for name in ("tool", "nope", "std/tool", ""):
        answer = client.ask("launch_process", inferlet=name, input="{}", capture_outputs=True)
        assert answer == invalid(name)


@only_0_5
def test_a_bare_name_means_the_highest_version(server: LocalServer, client: ProcessClient) -> None:
    for version in ("0.9.0", "0.10.0", "0.2.11"):
        server.program(f"tool@{version}")(lambda ctx, version=version: version)
    client.add(programs.SUCCESS, manifest_of("tool", "odd"))
    assert run(client, "tool")[1] == ("return", "0.10.0")
    assert run(client, "tool@0.2.11")[1] == ("return", "0.2.11")


@pytest.mark.parametrize("inferlet", ["nope@0.1.0", "tool@0.2.0", "tool@", "tool@0.1.0@x"])
def test_names_that_find_nothing(server: LocalServer, client: ProcessClient, gateway: bool, inferlet: str) -> None:
    server.program("tool")(lambda ctx: "found")
    url = f"http://127.0.0.1:9/api/v1/inferlets/{inferlet.replace('@', '/')}/manifest"
    if not inferlet.endswith(".0"):
        text = invalid(inferlet)[1]
    elif gateway:
        text = f"program {inferlet} is not installed"
    else:
        text = f"Failed to download manifest from {url}: error sending request for url ({url})"
    for capture in (True, False):
        answer = client.ask("launch_process", inferlet=inferlet, input="{}", capture_outputs=capture)
        assert answer == (False, text)


@only_0_5
@pytest.mark.parametrize("name", ["nope", "", "TOOL", "std/tool"])
def test_bare_names_that_find_nothing(server: LocalServer, client: ProcessClient, name: str) -> None:
    server.program("tool")(lambda ctx: "found")
    answer = client.ask("launch_process", inferlet=name, input="{}", capture_outputs=True)
    assert answer == (False, f"no program named '{name}' is installed")


@pytest.mark.parametrize("registered", ["tool", "std/tool", "tool@latest", "std/tool@0.1.0"])
def test_python_programs_are_installed_ones(server: LocalServer, client: ProcessClient, registered: str) -> None:
    server.program(registered)(lambda ctx: "found")
    assert client.check("tool", "0.1.0") == (True, "true")
    assert run(client, "tool") == run(client, "tool@0.1.0") == ("", ("return", "found"))
    assert client.add(programs.SUCCESS, manifest_of("tool", "0.1.0")) == INSTALLED
    assert run(client, "tool")[1] == ("return", "found")
    assert client.add(programs.SUCCESS, manifest_of("tool", "0.1.0"), overwrite=True) == INSTALLED
    assert run(client, "tool")[1] == ("return", "")


@pytest.mark.parametrize("name", ["mine/tool", "tool@1", "tööl", "a/b/c", ""])
def test_names_that_python_programs_can_not_have(server: LocalServer, name: str) -> None:
    with pytest.raises(ValueError, match="."):
        server.program(name)


@only_0_5
@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_script_is_refused_without_a_language_component(client: ProcessClient, language: str) -> None:
    script = manifest_of("tool") + f'[runtime]\nlanguage = "{language}"\nentry = "main"\n'
    for overwrite in (False, True):
        ok, text = client.add(b"def main(): pass", script, overwrite=overwrite)
        assert not ok
        assert text.startswith(f"no {language} language component at ")
        assert "pie_sync.testing.EngineServer" in text
        assert client.check("tool", "1.0.0") == (True, "false")  # unlike what can't be compiled
    assert client.add(programs.SUCCESS, manifest_of("tool")) == INSTALLED


@only_0_5
def test_an_unknown_language(client: ProcessClient) -> None:
    ok, text = client.add(b"x", manifest_of("tool") + '[runtime]\nlanguage = "cobol"\n')
    assert not ok
    assert text.startswith("Invalid manifest: Failed to parse manifest TOML: unknown variant `cobol`")


def test_core_modules_are_refused_where_they_are_told_to_be(protocol: str, gateway: bool) -> None:
    with LocalServer(protocol=protocol, core_modules=False) as server:
        client = ProcessClient(server.uri, gateway=gateway, username="alice")
        assert client.add(programs.SUCCESS, manifest_of("tool")) == NO_WASM
        assert client.check("tool", "1.0.0") == (True, "true")
        assert client.ask("launch_process", inferlet="tool@1.0.0", input="{}", capture_outputs=True) == NO_WASM
        client.close()
