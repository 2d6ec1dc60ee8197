"""What ``run`` and ``map`` take for a program: a name, a hash, or a file."""

from pathlib import Path

import pytest

from pie_sync._connection.programs import Programs
from pie_sync._runs.program_reference import is_program_file
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


def test_a_file_of_another_name(client, wasm):
    other = wasm.rename(wasm.with_name("hello"))
    assert client.run(str(other), ["world"]).stdout.startswith("Hello, world!")


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


def test_a_text_with_a_slash_is_a_file_if_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "std").mkdir()
    (tmp_path / "std" / "talk").touch()
    (tmp_path / "echo").touch()
    assert is_program_file("std/talk")
    assert not is_program_file("std")
    assert not is_program_file("echo")


def test_what_is_no_program_at_all():
    with pytest.raises(TypeError, match="bytes go through upload_program"):
        is_program_file(b"bytes")
    with pytest.raises(ValueError, match="empty"):
        is_program_file("")
