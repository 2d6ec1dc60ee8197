"""Programs by name, by hash and as files; libraries linked by ``wac``."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer

from .conftest import CommandLine, RunHere, lines

#: Stands in for the tool that links: what it is called with is what matters here.
WAC = """#!/bin/sh
echo "$@" >> "$HOME/wac.log"
[ -f "$3" ] || { echo no "$3" >&2; exit 1; }
cp "$4" "$6"
"""


def test_a_file_is_uploaded_when_the_server_lacks_it(pie: CommandLine, client: PieClient, hello: Path) -> None:
    assert pie.output("run", "hello.wasm", "Pie") == "Hello, Pie!\n"
    program_hash = pie.output("upload", hello).strip()
    assert client.program_exists(program_hash)
    assert pie.output("run", program_hash.upper(), "again") == "Hello, again!\n"


def test_programs_that_are_not_there(run_here: RunHere, server: LocalServer, home: Path) -> None:
    for program, reason in [
        ("nobody/knows@1.0.0", "error: the server refuses the request: Failed to download inferlet"),
        ("missing.wasm", "error: there is no file missing.wasm"),
        ("~/missing.wasm", f"error: there is no file {home}/missing.wasm"),
    ]:
        result = run_here("run", program, "--uri", server.uri)
        assert (result.code, result.stdout) == (1, "")
        assert result.stderr.startswith(reason)
        assert result.stderr.splitlines()[1].startswith("hint: ")


def test_libraries_are_linked_by_wac(
    run_here: RunHere, server: LocalServer, hello: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = home / "bin"
    tools.mkdir()
    wac = tools / "wac"
    wac.write_text(WAC)
    wac.chmod(wac.stat().st_mode | stat.S_IXUSR)
    (home / "a.wasm").touch()
    (home / "b.wasm").touch()
    monkeypatch.setenv("PIE_URI", server.uri)
    path = f"{tools}:{os.environ['PATH']}"

    done = run_here("run", "hello.wasm", "--link", "a.wasm", "-l", "b.wasm", "--", "you", PATH=path)
    assert done.stdout == "Hello, you!\n"
    first, second = (home / "wac.log").read_text().splitlines()
    assert first.startswith("plug --plug a.wasm hello.wasm -o ")
    assert second.startswith(f"plug --plug b.wasm {first.split()[-1]} -o ")

    done = run_here("run", "hello.wasm", "--link", "c.wasm", PATH=path)
    assert done.stderr.startswith("error: wac can't link c.wasm: no c.wasm\n")

    done = run_here("run", "hello.wasm", "--link", "a.wasm")
    assert "cargo install wac-cli" in done.stderr

    done = run_here("run", "hello", "--link", "a.wasm")
    assert done.stderr.startswith("error: --link needs a program that is a file\n")


def test_an_upload_of_a_file_that_is_not_there(run_here: RunHere) -> None:
    assert lines(run_here("upload", "missing.wasm")) == ("there is no file missing.wasm", "is the path right?")


@pytest.mark.parametrize(
    ("program", "error", "hint"),
    [
        (".", ". is a folder", "give the program's file, such as program.wasm"),
        ("./", ". is a folder", "give the program's file"),
        ("std/", "std is a folder", "give the program's file"),
        ("hello.wat", "hello.wat is WebAssembly text", "in Python, wasmtime.wat2wasm() makes NAME.wasm"),
        ("./program", "program is neither NAME.wasm nor NAME.py", "`pie-sync run $(pie-sync upload program)`"),
        ("../nothing", "there is no file ../nothing", "is the path right?"),
        ("nothing.wat", "there is no file nothing.wat", "is the path right?"),
    ],
)
def test_paths_are_not_looked_for_on_the_server(
    run_here: RunHere, home: Path, program: str, error: str, hint: str
) -> None:
    """What is a path by its spelling is refused here, without a connection: the server's answer would mislead."""
    (home / "std").mkdir()
    (home / "hello.wat").touch()
    (home / "program").touch()
    found_error, found_hint = lines(run_here("run", program, "--uri", "ws://no.such.host.invalid"))
    assert found_error == error
    assert found_hint.startswith(hint)


def test_a_name_is_never_taken_for_a_file(run_here: RunHere, server: LocalServer, home: Path) -> None:
    (home / "std").mkdir()
    (home / "std/hello").touch()
    (home / "hello").touch()
    server.program("hello")(lambda context: "from the server")
    for name in ("hello", "std/hello"):
        assert run_here("run", name, "--uri", server.uri).stdout == "from the server\n"


@pytest.mark.parametrize("command", [["run", "greet.py", "--", "world"], ["serve", "--engine", "greet.py"]])
@pytest.mark.parametrize("main", ["main(context)", "main(context: ProgramContext) -> str"])
def test_a_program_for_serve(run_here: RunHere, home: Path, command: list[str], main: str) -> None:
    """Also one that uses other names of its module, as a function next to the model could not."""
    (home / "greet.py").write_text(f"import helper\n\ndef {main}:\n    return helper.greet()\n")
    error, hint = lines(run_here(*command))
    assert error == "greet.py is a program for `pie-sync serve`: its main() takes a ProgramContext"
    assert hint == "`pie-sync serve greet.py` serves it; then `pie-sync run greet` runs it"
