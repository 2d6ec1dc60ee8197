"""The sub-command ``serve``: a LocalServer with a folder of programs."""

# No "from __future__ import annotations": typer reads the annotations of the commands.

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ._command import Options, command
from ._failures import Failure, explain, printable
from ._files import expand, read_text
from ._interruption import INTERRUPTION, NAP
from ._output import echo, say
from ._settings import DEFAULT_HOST, DEFAULT_PORT

if TYPE_CHECKING:
    from ..testing import LocalServer


@command(
    "serve",
    options=("debug",),
    examples="""
pie-sync serve
pie-sync serve my_programs --port 9000
pie-sync serve my_programs --user alice=alice.pub --user bob=bob.pub
""",
)
def serve(
    options: Options,
    folder: Annotated[
        Optional[Path],
        typer.Argument(metavar="FOLDER", help="A folder of programs; NAME.wasm can be run as NAME."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = DEFAULT_HOST,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The TCP port; 0 takes a free one.")
    ] = DEFAULT_PORT,
    protocol: Annotated[
        str, typer.Option("--protocol", help="The protocol: instance (Pie up to 0.2), process, or process-0.5.")
    ] = "instance",
    user: Annotated[
        Optional[list[str]],
        typer.Option(
            "--user",
            metavar="NAME=FILE",
            help="Accept this user, who has the private half of a public key in FILE. Default: everybody.",
        ),
    ] = None,
) -> None:
    """Serve programs from this machine.

    This server is for trying things out: it runs WebAssembly components, without a model, and core modules.

    Prints the URI to connect to, and serves until Ctrl-C, SIGTERM or the end of the terminal. Everybody may
    upload programs; they run in a sandbox without files or network.
    """
    try:
        from ..testing import LocalServer  # noqa: PLC0415 - needs the extra `testing`
    except ModuleNotFoundError as error:
        raise Failure(
            f"serving needs {error.name}, which is not installed", "pip install 'pie-sync[testing]'"
        ) from error
    try:
        server = LocalServer(_users(user) if user else None, port=port, host=host, protocol=protocol)
    except ValueError as error:
        raise Failure(str(error), "see `pie-sync serve --help`") from error
    programs = _add_programs(server, expand(folder)) if folder else []
    try:
        with INTERRUPTION.hold():
            try:
                server.start()
            except OSError as error:
                raise Failure(
                    f"can't listen on {host}, port {port}: {explain(error).text}", "--port 0 takes a free one"
                ) from error
            try:
                echo(server.uri)
                say(f"[serving {', '.join(programs) or 'uploaded programs'}; Ctrl-C ends the server]")
                while not INTERRUPTION.has_come:
                    time.sleep(NAP)
                say("[ended]")
            finally:
                server.close()
    except KeyboardInterrupt:
        pass  # the regular end of a server


def _users(pairs: list[str]) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not (name and equals and file):
            raise Failure(f"--user {pair!r}", "it takes NAME=FILE, with a .pub file as ssh-keygen makes it")
        keys = read_text(expand(Path(file)))
        if not keys.strip():
            raise Failure(f"--user {pair!r}: {file} is empty", "it takes a .pub file, as ssh-keygen makes it")
        users.setdefault(name, []).append(keys)
    return users


def _add_programs(server: "LocalServer", folder: Path) -> list[str]:
    if not folder.is_dir():
        raise Failure(f"there is no folder {folder}", "is the path right?")
    names = []
    for path in sorted(folder.glob("*.wasm")):
        try:
            _add_program(server, path)
        except ValueError as error:
            say(f"warning: {path} is left out: {printable(str(error))}")
        else:
            names.append(path.stem)
    return names


def _add_program(server: "LocalServer", path: Path) -> None:
    from ..testing._server.catalog import ProgramName  # noqa: PLC0415 - see serve()

    core = server._core
    core.catalog.register(ProgramName.parse(path.stem), core.compile(path.read_bytes()))
