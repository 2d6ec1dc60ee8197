"""Programs on a command line: a name, a hash, or a file."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._functions.script import load_script
from .._functions.source import split_script_path
from .._runs.program_reference import GivenProgram, is_program_file
from .._session.payloads import check_is_wasm, open_payload
from ..errors import UploadError
from ._failures import Failure, printable
from ._files import expand
from ._output import say
from ._progress import upload_bar
from ._python_files import check_is_for_engine

if TYPE_CHECKING:
    from .._functions.inferlet import Inferlet
    from ..client import PieClient

__all__ = ["file_of", "function_of", "linked", "upload", "upload_function", "upload_if_lacking"]


#: What can only be meant as a path: no program on a server has such a name.
_PATH = re.compile(r"(?:~|[/\\]|\.\.?(?:[/\\]|$)).*|.*(?:[/\\]|\.wat)", re.DOTALL)


def file_of(program: str) -> Path | None:
    """Return the path of a program that is a file; None for a name or a hash.

    Raises:
        Failure: the program is a path, but there is no such file.
    """
    path = expand(Path(program))
    if not is_program_file(str(path)):
        if _PATH.fullmatch(program):
            raise _no_program(path)
        return None
    if not path.is_file():
        raise _no_program(path)
    return path


def _no_program(path: Path) -> Failure:
    """Return why no program is at a path."""
    if path.is_dir():
        return Failure(f"{path} is a folder", "give the program's file, such as program.wasm")
    if not path.exists():
        return Failure(
            f"there is no file {path}",
            "is the path right? a program on the server goes by its name, without ./ and .wasm",
        )
    if path.suffix == ".wat":
        return Failure(f"{path} is WebAssembly text", "in Python, wasmtime.wat2wasm() makes NAME.wasm of it")
    return Failure(
        f"{path} is neither NAME.wasm nor NAME.py", f"`pie-sync run $(pie-sync upload {path})` takes any name"
    )


def function_of(program: str) -> Inferlet[..., Any] | None:
    """Return the function that ``path.py`` or ``path.py:function`` names; None for all other programs.

    Raises:
        Failure: there is no such file, or no such function in it, or it can't run on a server.
    """
    found = split_script_path(program)
    if found is None:
        return None
    path = expand(Path(found[0]))
    if not path.is_file():
        raise Failure(f"there is no file {path}", "a function is named as in script.py:complete")
    check_is_for_engine(path, found[1])
    try:
        return load_script(path, found[1])
    except ValueError as error:
        raise Failure(str(error), "the guide `Functions next to the model` says what a function may do") from error


def upload_function(client: PieClient, function: Inferlet[..., Any]) -> None:
    """Upload a function unless the server has it already."""
    if client.protocol == "process" and not client.program_exists(function):
        say(f"[uploading {function.entry}: a fresh server takes half a minute for its first Python program]")
    GivenProgram(function).find(client._manager, "run")


def upload_if_lacking(client: PieClient, path: Path) -> str:
    """Upload a program unless the server has it already; return its hash."""
    with open_payload(path) as payload:
        try:
            check_is_wasm(payload, str(path))
        except UploadError as error:
            raise Failure(error.reason, "scripts and manifests go with `pie-sync upload --manifest`") from error
        program_hash = payload.hash
    return program_hash if client.program_exists(program_hash) else upload(client, path)


def upload(client: PieClient, path: Path, **options: Any) -> str:
    """Upload a program with a progress bar; return its hash."""
    with upload_bar(f"Uploading {printable(path.name)}") as progress:
        return client.upload_program(path, progress=progress, **options)


@contextmanager
def linked(program: Path, libraries: Sequence[Path]) -> Iterator[Path]:
    """Link libraries into a WebAssembly component, one after another, with the tool ``wac``.

    Yields:
        The path of the linked program, which is deleted at the end.
    """
    if not libraries:
        yield program
        return
    wac = shutil.which("wac")
    if wac is None:
        raise Failure("linking needs the tool wac, which is not installed", "`cargo install wac-cli` installs it")
    with tempfile.TemporaryDirectory(prefix="pie-sync-") as folder:
        for library in libraries:
            composed = Path(tempfile.mkdtemp(dir=folder), program.name)
            _run_wac([wac, "plug", "--plug", str(library), str(program), "-o", str(composed)], library)
            program = composed
        yield program


def _run_wac(command: list[str], library: Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
    if done.returncode != 0:
        reason = printable(done.stderr.decode(errors="replace")) or f"exit code {done.returncode}"
        raise Failure(
            f"wac can't link {library}: {reason}", f"does `{library.name}` export what the program imports?"
        )
