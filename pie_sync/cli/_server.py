"""The sub-commands for a server: ``ping`` and ``query``."""

# No "from __future__ import annotations": typer reads the annotations of the commands.

from typing import Annotated

import typer

from ._command import Options, command
from ._connection import connected
from ._failures import Failure
from ._output import echo
from ._settings import Settings


@command(
    "ping",
    examples="""
pie-sync ping
pie-sync ping --uri wss://pie.example.org
""",
)
def ping(options: Options) -> None:
    """Check that the server answers.

    Shows how long the answer takes, and which protocol the server speaks.
    """
    settings = Settings.of(options)
    with connected(settings) as client:
        milliseconds = client.ping() * 1000
        echo(f"{settings.client.uri.value}: {milliseconds:.1f} ms, {client.protocol} protocol")


#: What servers up to 0.2 know; later ones know the first only.
SUBJECTS = ("model_status", "backend_stats", "program_exists")


def _complete_subject(incomplete: str) -> list[str]:
    return [subject for subject in SUBJECTS if subject.startswith(incomplete)]


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
        typer.Argument(
            metavar="SUBJECT",
            help="model_status; up to Pie 0.2 also backend_stats, program_exists.",
            autocompletion=_complete_subject,
        ),
    ],
    record: Annotated[
        str, typer.Argument(metavar="RECORD", help="The record to query, if the subject has any.")
    ] = "",
) -> None:
    """Send a named query to the server.

    Servers up to Pie 0.4 never answer a subject that they don't know: the command then ends after --timeout.
    """
    with connected(Settings.of(options)) as client:
        answer = client.query(subject, record)
    if answer.successful:
        echo(answer.result)
        return
    raise Failure(
        f"the server does not answer this query: {answer.result}", "a subject that it knows: model_status"
    )
