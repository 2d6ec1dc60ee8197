"""The programs of ``serve``: files that the user names, and those in folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .._functions.script import load_decorated
from .._functions.source import split_script_path
from ..errors import PieValueError
from ._failures import Failure, printable
from ._files import expand
from ._output import say
from ._python_files import PythonFileError, has_main, load_main

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..testing import LocalServer

__all__ = ["add_programs"]


def add_programs(server: LocalServer, paths: Sequence[str]) -> list[str]:
    """Add programs to a server, and return their names.

    Args:
        server: a server that has not been started.
        paths: files and folders. In a folder, what can't be served is left out, with a note on stderr.

    Raises:
        Failure: there is no such file, a file that is named can't be served, or two programs have one name.
    """
    added: dict[str, Path] = {}
    for given in paths:
        path = expand(Path(given))
        for file in _files_at(path):
            other = added.get(file.stem)
            if other is not None and file.resolve() == other.resolve():
                continue  # a file of a folder that is given as well
            if not _add(server, file, is_named=file == path):
                continue
            if other is not None:
                raise Failure(
                    f"two programs are called {file.stem}: {other} and {file}",
                    "a program has the name of its file: give one of them another name",
                )
            added[file.stem] = file
    return list(added)


def _files_at(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        script = split_script_path(str(path))
        if script is not None and script[1] is not None and Path(script[0]).is_file():
            raise Failure(
                f"a function of {script[0]} can't be served alone",
                f"`pie-sync serve {script[0]}` serves its main()",
            )
        raise Failure(f"there is no file or folder {path}", "is the path right?")
    files = [file for file in sorted(path.iterdir()) if file.suffix in (".wasm", ".py")]
    others = [file for file in files if file.suffix == ".py" and not has_main(file)]
    yield from (file for file in files if file not in others)
    if others:  # scripts that have nothing to do with this are not run
        names = ", ".join(file.name for file in others)
        say(f"[left out, without a function main(context): {printable(names)}]")


def _add(server: LocalServer, file: Path, *, is_named: bool) -> bool:
    """Add a program. If it can't be served, that is an error where the user has named the file, else a warning."""
    try:
        if file.suffix == ".py":
            server.program(file.stem)(load_main(file))
        else:
            from ..testing._server.catalog import ProgramName  # noqa: PLC0415 - needs the extra `testing`

            name = server._profile.registered_name(ProgramName.parse(file.stem))
            server._core.catalog.register(name, server._core.compile(file.read_bytes()))
    except (OSError, ValueError, PythonFileError) as error:
        if is_named and isinstance(error, OSError):
            raise
        if is_named:
            raise Failure(f"can't serve {file}: {error}", _hint(file, error)) from error
        say(f"warning: {file} is left out: {printable(str(error))}")
        return False
    return True


def _hint(file: Path, error: Exception) -> str:
    if isinstance(error.__cause__, ModuleNotFoundError):
        return "pip install 'pie-sync[testing]'"
    if file.suffix == ".wat":
        return "in Python, wasmtime.wat2wasm() makes NAME.wasm of it"
    if file.suffix == ".py" and _has_inferlets(file):
        return f"its functions with @inferlet run on the real server: pie-sync serve --engine {file}"
    return "a program is a WebAssembly file, or a Python file with a function main(context)"


def _has_inferlets(file: Path) -> bool:
    try:
        return bool(load_decorated(file))
    except (OSError, PieValueError):
        return False
