"""``serve --engine``: the real Pie server, in place of LocalServer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._functions.script import load_decorated, load_script
from .._functions.source import split_script_path
from .._runs.program_reference import GivenProgram
from ..client import PieClient
from ..errors import PieValueError
from ..testing import EngineError, EngineServer, EngineUnavailableError
from ._failures import Failure, printable
from ._files import expand
from ._interruption import INTERRUPTION, NAP
from ._output import echo, say
from ._python_files import check_is_for_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._functions.inferlet import Inferlet

__all__ = ["functions_at", "serve_engine"]


def serve_engine(paths: Sequence[str], model: str | None, host: str, port: int, memory: str | None) -> None:
    """Serve until a signal comes, or until the server ends by itself.

    Args:
        paths: Python files with functions for the server, and folders of such files; ``file.py:function`` is one
            function. They are uploaded before the server's address is printed.
        model: see :class:`EngineServer`.
        host: see there.
        port: see there.
        memory: see there.

    Raises:
        Failure: the server can't start, or has ended.
        OSError, PieValueError: there are no such functions.
        PieError, PieConnectionError: the server does not take them.
    """
    functions = functions_at(paths)
    try:
        server = EngineServer(model, host=host, port=port, memory=memory)
    except ValueError as error:
        raise Failure(str(error), "see `pie-sync serve --help`") from error
    try:
        say(f"[loading {model or 'a tiny model with random weights'}]")
        _start(server)
        _upload(server.uri, functions)
        with INTERRUPTION.hold():
            echo(server.uri)
            say(f"[OpenAI-compatible routes: {server.http_uri}/v1; log: {server.log}; Ctrl-C ends the server]")
            while not INTERRUPTION.has_come:
                if not server.running:
                    raise Failure("the server's process has ended", f"its log is {server.log}")
                time.sleep(NAP)
            say("[ended]")
    except KeyboardInterrupt:
        pass  # the regular end of a server
    finally:
        server.close()


def functions_at(paths: Sequence[str]) -> list[Inferlet[..., Any]]:
    """Return the functions that are meant by paths; see :func:`serve_engine`."""
    functions: dict[str, Inferlet[..., Any]] = {}
    for given in dict.fromkeys(paths):
        path = expand(Path(given))
        for function in _functions_in(path) if path.is_dir() else _functions_of(path):
            same = functions.setdefault(function.name, function)
            if same.program != function.program:
                raise Failure(
                    f"several functions are called {function.name}", '@inferlet(name="...") gives one another name'
                )
    return list(functions.values())


def _functions_of(path: Path) -> list[Inferlet[..., Any]]:
    script = split_script_path(str(path))
    if script is None:
        raise Failure(
            f"the engine can't serve {path}" if path.exists() else f"there is no file or folder {path}",
            "it takes Python files and folders of them; `pie-sync run FILE.wasm` uploads a component",
        )
    file, function = script
    check_is_for_engine(Path(file), function)
    marked = [] if function else load_decorated(file)
    return marked or [load_script(file, function)]


def _functions_in(folder: Path) -> list[Inferlet[..., Any]]:
    """Return the functions of a folder. Files without any are told of, since many a folder has other scripts."""
    functions: list[Inferlet[..., Any]] = []
    for file in sorted(folder.iterdir()):
        if file.suffix not in (".py", ".wasm"):
            continue
        try:
            found = load_decorated(file) if file.suffix == ".py" else []
        except (OSError, PieValueError) as error:
            say(f"warning: {file} is left out: {printable(str(error))}")
            continue
        if not found:
            say(f"[{printable(file.name)} is left out: it has no function with @inferlet]")
        functions += found
    return functions


def _upload(uri: str, functions: list[Inferlet[..., Any]]) -> None:
    if not functions:
        return
    say("[uploading functions; a fresh server takes half a minute for its first one]")
    with PieClient(uri) as client:
        client.authenticate("pie-sync")
        for function in functions:
            GivenProgram(function).find(client._manager, "serve")
    say(f"[functions: {', '.join(function.program for function in functions)}]")


def _start(server: EngineServer) -> None:
    try:
        server.start()
    except EngineUnavailableError as error:
        raise Failure(error.reason, error.hint) from error
    except EngineError as error:
        # The first line is the reason, the others are from the log.
        text, _, _ = str(error).partition("\n")
        raise Failure(text, f"its log is {server.log}") from error
