"""The sub-command ``serve``: a LocalServer with programs, or with ``--engine`` the real server."""

# No "from __future__ import annotations": typer reads the annotations of the commands.

import logging
import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from .._connection.settings import DEFAULT_HOST, DEFAULT_PORT
from ._command import Options, command
from ._failures import Failure, explain, printable
from ._files import expand, read_text
from ._interruption import INTERRUPTION, NAP
from ._output import DIM, echo, say, styled
from ._serve_engine import serve_engine
from ._served_programs import add_programs

PROTOCOLS = ("0.2", "0.2-names", "0.3", "0.4", "0.5")


def _complete_protocol(incomplete: str) -> list[str]:
    return [name for name in PROTOCOLS if name.startswith(incomplete)]


@command(
    "serve",
    options=("debug",),
    examples="""
pie-sync serve
pie-sync serve greet.py
pie-sync serve greet.py hello.wasm my_programs --port 9000
pie-sync serve my_programs --user alice=alice.pub --user bob=bob.pub
pie-sync serve --engine
pie-sync serve --engine summarize.py
""",
)
def serve(
    options: Options,
    paths: Annotated[
        Optional[list[str]],
        typer.Argument(
            metavar="PATH...",
            help="Programs, and folders of programs: NAME.wasm or NAME.py can be run as NAME."
            " With --engine: Python files, whose functions with @inferlet can be run by their names.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = DEFAULT_HOST,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The TCP port; 0 takes a free one.")
    ] = DEFAULT_PORT,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            metavar="|".join(PROTOCOLS),
            help="The generation of the server.",
            autocompletion=_complete_protocol,
        ),
    ] = PROTOCOLS[0],
    user: Annotated[
        Optional[list[str]],
        typer.Option(
            "--user",
            metavar="NAME=FILE",
            help="Accept this user, who has the private half of a public key in FILE. Default: everybody.",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No line for each connection, launch and end.")
    ] = False,
    engine: Annotated[
        bool, typer.Option("--engine", help="Run the real Pie server, with a model (extra `engine`).")
    ] = False,
    model: Annotated[
        Optional[str],
        typer.Option(
            "--model",
            metavar="NAME|PATH",
            help="With --engine: an imported model, or a checkpoint's folder (/..., ./... or ~...)."
            " Default: a tiny one with random weights.",
        ),
    ] = None,
    memory: Annotated[
        Optional[str],
        typer.Option("--memory", metavar="SIZE", help="With --engine: what wgpu reserves, such as 8GiB."),
    ] = None,
) -> None:
    """Serve programs from this machine.

    This server is for trying things out: it runs WebAssembly components and core modules, without a model.
    It also runs Python files with a function `main(context)`, which gets a `pie_sync.testing.ProgramContext`.
    With --engine it is the real Pie server, which runs Python functions next to a model.

    Prints the URI to connect to, and serves until Ctrl-C, SIGTERM or the end of the terminal. Everybody may
    upload WebAssembly programs; they run in a sandbox without files or network. Python files run without one.
    """
    if engine:
        if user or protocol != PROTOCOLS[0]:
            raise Failure(
                "--engine takes no --user and no --protocol",
                "the real server lets everybody in; its protocol is that of 0.5",
            )
        serve_engine(paths or [], model, host, port, memory)
        return
    if model or memory:
        raise Failure("--model and --memory are for --engine", "pie-sync serve --engine --model NAME")
    try:
        from ..testing import LocalServer  # noqa: PLC0415 - needs the extra `testing`
    except ModuleNotFoundError as error:
        raise Failure(
            f"serving needs {error.name}, which is not installed", "pip install 'pie-sync[testing]'"
        ) from error
    users = _users(user) if user else None
    try:
        server = LocalServer(users, port=port, host=host, protocol=protocol)
    except ValueError as error:
        raise Failure(str(error), "see `pie-sync serve --help`") from error
    programs = add_programs(server, paths or [])
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
                if not quiet:
                    _show_activity()
                say(f"[serving {', '.join(programs) or 'uploaded programs'}; Ctrl-C ends the server]")
                while not INTERRUPTION.has_come:
                    time.sleep(NAP)
            finally:
                server.close()
            say("[ended]")
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


def _show_activity() -> None:
    """Write a line for each connection, launch and end."""
    activity = logging.getLogger("pie_sync.testing.activity")
    activity.addHandler(_Lines())
    activity.setLevel(logging.INFO)
    activity.propagate = False


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        moment = styled(time.strftime("%H:%M:%S", time.localtime(record.created)), DIM)
        say(f"{moment} {printable(record.getMessage())}")
