"""The commands about a server: ``ping`` and ``query``."""

# No "from __future__ import annotations": typer reads the annotations of the commands.

from typing import Annotated, Optional

import typer

from ._command import Options, command
from ._connection import connected
from ._failures import printable
from ._output import say
from ._settings import Settings


@command(
    "ping",
    examples="""
pie-sync ping
pie-sync ping --uri wss://pie.example.org
""",
)
def ping(options: Options) -> None:
    """Ask whether the server answers.

    Tells how long it takes, and which generation of the protocol the server speaks.
    """
    settings = Settings.of(options)
    with connected(settings) as client:
        milliseconds = client.ping() * 1000
        typer.echo(f"{settings.uri.value}: {milliseconds:.1f} ms, {client.protocol} protocol")


@command(
    "query",
    examples="""
pie-sync query model_status
pie-sync query program_exists $(pie-sync upload my_program.wasm)
""",
)
def query(
    options: Options,
    subject: Annotated[
        str,
        typer.Argument(metavar="SUBJECT", help="model_status; up to Pie 0.2 also backend_stats, program_exists."),
    ],
    record: Annotated[str, typer.Argument(metavar="RECORD", help="Of which.")] = "",
) -> Optional[int]:
    """Ask the server for something by name.

    Servers up to Pie 0.4 never answer a subject that they don't know: that ends with the --timeout.
    """
    with connected(Settings.of(options)) as client:
        answer = client.query(subject, record)
    if answer.successful:
        typer.echo(answer.result)
        return 0
    say(f"error: the server can't tell: {printable(answer.result)}\ncure: a subject that it knows: model_status")
    return 1
