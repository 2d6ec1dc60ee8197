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

from .._runs.program_reference import is_program_file
from .._session.payloads import open_payload
from ._failures import Failure, printable
from ._files import expand
from ._progress import upload_bar

if TYPE_CHECKING:
    from ..client import PieClient
    from ..instance import Instance

__all__ = ["file_of", "launch", "linked", "upload", "upload_if_lacking"]

_HASH = re.compile("[0-9a-fA-F]{64}")


def file_of(program: str) -> Path | None:
    """Return the path of a program that is a file; None for a name or a hash.

    Raises:
        Failure: the program is a path, but there is no such file.
    """
    path = expand(Path(program))
    if not is_program_file(str(path)):
        return None
    if path.is_dir():
        raise Failure(f"{path} is a folder", "give the program's file, such as program.wasm")
    if not path.is_file():
        raise Failure(f"there is no file {path}", "the name of a program on the server has no .wasm at its end")
    return path


def launch(client: PieClient, program: str, args: Sequence[str], *, detached: bool = False) -> Instance:
    """Launch a program on the server, by its hash or by its name."""
    if _HASH.fullmatch(program):
        return client.launch_instance(program, args, detached)
    return client.launch_instance_from_registry(program, args, detached)


def upload_if_lacking(client: PieClient, path: Path) -> str:
    """Upload a program unless the server has it already; return its hash."""
    with open_payload(path) as payload:
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
