"""What ``run`` and ``map`` take for a program: a name, a hash, or a file."""

from pathlib import Path

import pytest
from blake3 import blake3

from pie_sync import LaunchError, UploadError, inferlet
from pie_sync._connection.programs import Programs
from pie_sync._runs.program_reference import identity_of, is_program_file
from tests.programs import HELLO


@pytest.fixture
def wasm(tmp_path):
    path = tmp_path / "hello.wasm"
    path.write_bytes(HELLO)
    return path


def test_a_hash(client):
    program_hash = client.upload_program(HELLO)
    assert client.run(program_hash.upper(), ["world"]).stdout.startswith("Hello, world!")


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "PathLike"])
def test_a_file_is_uploaded_once(client, wasm, kind, monkeypatch):
    uploads = []
    upload = Programs.upload
    monkeypatch.setattr(
        Programs, "upload", lambda *args, **options: uploads.append(args) or upload(*args, **options)
    )
    for _ in range(2):
        assert client.run(kind(wasm), ["world"], timeout=20).stdout.startswith("Hello, world!")
    assert len(uploads) == 1


def test_a_path_may_have_any_name(client, wasm):
    other = wasm.rename(wasm.with_name("hello"))
    assert client.run(other, ["world"]).stdout.startswith("Hello, world!")


def test_a_text_without_an_ending_is_never_sent_as_a_file(client, wasm):
    other = wasm.rename(wasm.with_name("hello"))
    sent = client.stats().bytes_sent
    with pytest.raises(LaunchError):
        client.run(str(other))
    assert client.stats().bytes_sent - sent < 500


@pytest.mark.parametrize("content", [b"junk", b"", b"\0as", b"(module)"])
def test_a_file_that_is_no_webassembly_is_not_sent(client, tmp_path, content):
    path = tmp_path / "program.wasm"
    path.write_bytes(content)
    sent = client.stats().messages_sent
    for call in (client.run, client.launch, lambda program: client.map(program, [[]])):
        with pytest.raises(UploadError, match="nothing was sent"):
            call(path)
    assert client.stats().messages_sent == sent


def test_launch_takes_whatever_run_takes(client, wasm):
    program_hash = client.upload_program(HELLO)
    for program in (program_hash, wasm, str(wasm)):
        assert client.launch(program, ["world"]).wait(20).stdout.startswith("Hello, world!")
    instance = client.launch("talk", ["a"])
    result = instance.wait(20)
    assert (result.message, result.input, result.id) == ("a", ["a"], instance.id)
    detached = client.launch("talk", ["b"], detached=True)
    assert client.attach_instance(detached.id).wait(20).message == "b"


def test_a_name_with_a_slash_is_no_file(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert client.run("std/talk@latest", ["a"]).message == "a"


def test_a_file_that_is_not_there(client, tmp_path):
    for missing in (tmp_path / "missing", str(tmp_path / "missing.wasm")):
        with pytest.raises(FileNotFoundError):
            client.run(missing)


@pytest.mark.parametrize(
    ("program", "is_file"),
    [
        (Path("anything"), True),
        ("/etc/passwd", False),
        ("./program", False),
        ("folder/program.WASM", False),
        ("program.wasm", True),
        ("folder/program.wasm", True),
        ("name", False),
        ("namespace/name@1.0.0", False),
        ("ab" * 32, False),
    ],
)
def test_what_is_a_file(program, is_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_program_file(program) is is_file


def test_a_file_shadows_no_name(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "std").mkdir()
    (tmp_path / "std" / "talk").write_bytes(HELLO)
    assert not is_program_file("std/talk")
    assert client.run("std/talk", ["a"]).message == "a"


def test_what_is_no_program_at_all():
    with pytest.raises(TypeError, match="bytes go through upload_program"):
        is_program_file(b"bytes")
    with pytest.raises(ValueError, match="empty"):
        is_program_file("")


def test_what_tells_programs_apart_is_known_without_a_server(tmp_path, wasm):
    script = tmp_path / "script.py"
    script.write_text("def one(): return 1\ndef two(): return 2\n")
    assert identity_of(wasm) == identity_of(blake3(HELLO).hexdigest().upper()) == blake3(HELLO).hexdigest()
    assert identity_of("std/talk") == "std/talk"
    one, two = identity_of(f"{script}:one"), identity_of(f"{script}:two")
    assert one.startswith("one@")
    assert two.startswith("two@")
    script.write_text("def one(): return 11\n")
    assert identity_of(script) not in (one, two)


def test_a_function_with_a_version_of_its_own_is_told_apart_by_its_source():
    @inferlet(version="1.0.0")
    def answer() -> int:
        return 42

    assert identity_of(answer) == blake3(answer.source.encode()).hexdigest()
