"""Which programs ``serve`` serves, of files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from pie_sync import PieClient
from pie_sync.cli._failures import Failure
from pie_sync.cli._served_programs import add_programs
from pie_sync.testing import LocalServer
from tests.programs import HELLO

from .conftest import RunHere, lines

MAIN = "def main(context):\n    return {!r}\n"


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    folder = home / "programs"
    folder.mkdir()
    (folder / "hello.wasm").write_bytes(HELLO)
    (folder / "greet.py").write_text(MAIN.format("greet"))
    (folder / "lib.py").write_text("def helper(): pass\n")
    (home / "other.py").write_text(MAIN.format("other"))
    return folder


@pytest.mark.parametrize("protocol", ["0.2", "0.4", "0.5"])
def test_several_files_and_folders(folder: Path, protocol: str) -> None:
    """A file that is in a folder that is given as well is served once. Every program can be run by its name."""
    with LocalServer(protocol=protocol) as server:
        names = add_programs(server, ["other.py", "programs", "programs/hello.wasm"])
        assert names == ["other", "greet", "hello"]
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            version = "" if protocol == "0.2" else "@0.1.0"
            for name in names:
                assert client.run(f"{name}{version}").event.name == "Completed", name


def test_what_can_not_be_read_in_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Editors leave links that lead nowhere, and a folder may have any name."""
    (folder / ".#greet.py").symlink_to("alice@here.1")
    (folder / "gone.wasm").symlink_to("nowhere")
    (folder / "folder.py").mkdir()
    assert add_programs(LocalServer(), ["programs"]) == ["greet", "hello"]
    *warnings, note = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in warnings] == [
        f"programs/{name}" for name in (".#greet.py", "folder.py", "gone.wasm")
    ]
    assert note == "[left out, without a function main(context): lib.py]"


@pytest.mark.parametrize("order", [1, -1])
def test_two_programs_of_one_name(folder: Path, order: int) -> None:
    (folder.parent / "greet.py").write_text(MAIN.format("another"))
    with pytest.raises(Failure, match="two programs are called greet: .*greet.py and .*greet.py"):
        add_programs(LocalServer(), ["greet.py", "programs"][::order])


@pytest.mark.parametrize(
    ("given", "text", "error", "hint"),
    [
        ("hello.wat", "(module)", "can't serve hello.wat: no WebAssembly module", "in Python, wasmtime"),
        ("broken.wasm", "no", "can't serve broken.wasm: no WebAssembly module", "a program is a WebAssembly file"),
        ("lib.py", "", "can't serve lib.py: it has no function main(context)", "a program is a WebAssembly file"),
        (
            "marked.py",
            "@inferlet\ndef f(): pass\n",
            "can't serve marked.py: it has no function main(context)",
            "its functions with @inferlet run on the real server: pie-sync serve --engine marked.py",
        ),
        ("bad.py", "def main(context): pass\n1/0", "can't serve bad.py: ZeroDivisionError: division by zero", ""),
        ("a b.wasm", "", "can't serve a b.wasm: not a program name", ""),
        ("greet.py:main", "", "a function of greet.py can't be served alone", "`pie-sync serve greet.py`"),
        ("nothing.py", None, "there is no file or folder nothing.py", "is the path right?"),
    ],
)
def test_a_file_that_is_named_and_can_not_be_served(
    run_here: RunHere, folder: Path, given: str, text: str | None, error: str, hint: str
) -> None:
    (folder.parent / "greet.py").write_text(MAIN.format("greet"))
    if text is not None and ":" not in given:
        Path(given).write_text(text)
    for others in ([], ["programs"]):
        result = run_here("serve", *others, given)
        assert (result.code, result.stdout) == (1, "")
        *_, found_error, found_hint = result.stderr.splitlines()
        assert found_error.startswith(f"error: {error}")
        assert found_hint.startswith(f"hint: {hint}")
    assert len(lines(run_here("serve", given))) == 2
