"""The sub-commands for running instances: ``list`` and ``terminate``."""

# No "from __future__ import annotations": typer reads the annotations of the commands.

import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from ..events import InstanceInfo
from ._command import Options, command
from ._completion import complete_instance
from ._connection import connected
from ._failures import printable
from ._lookup import find
from ._output import echo, say, writing
from ._settings import Settings

GAP = 2  # spaces between the columns of the table
WORD = 12  # characters that a column has at least, if its texts are that long


@command(
    "list",
    examples="""
pie-sync list
pie-sync list --json | jq -r '.[] | select(.status == "Detached") | .id'
""",
)
def list_command(
    options: Options,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """List your instances.

    Servers up to Pie 0.2 also list instances that ended while they were detached, until somebody attaches.
    Pie 0.5 lists the instances of all users.
    """
    with connected(Settings.of(options)) as client:
        instances = client.list_instances()
    if as_json:
        echo(json.dumps([dataclasses.asdict(info) for info in instances], indent=2))
    elif not instances:
        say("[no instances]")
    else:
        _print_table(instances)


@command(
    "terminate",
    examples="""
pie-sync terminate 3f2a
pie-sync terminate 3f2a9c 81d0
""",
)
def terminate(
    options: Options,
    instances: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...",
            help="Their ids, or the first characters of them.",
            autocompletion=complete_instance,
        ),
    ],
) -> None:
    """Terminate instances."""
    with connected(Settings.of(options)) as client:
        # All ids are looked up first: if one is wrong, no instance is terminated.
        for instance_id in [find(client, prefix) for prefix in instances]:
            client.terminate_instance(instance_id)
            say(f"[terminated {printable(instance_id)}]")


def _print_table(instances: Sequence[InstanceInfo]) -> None:
    from rich.console import Console  # noqa: PLC0415 - takes 0.1 s, and only this command needs it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    rows = [_row(info) for info in instances]
    # A column that is empty for all instances is left out.
    widths = {name: max(len(row[name]) for row in rows) for name in rows[0]}
    shown = [name for name, width in widths.items() if width or name == "ARGUMENTS"]
    # What a column needs: an id all of its width, since it is copied from here. The others wrap.
    least = {name: widths[name] if name == "ID" else max(len(name), min(widths[name], WORD)) for name in shown}
    needed = sum(least.values()) + GAP * (len(shown) - 1)
    # On a terminal that is too narrow even so, the terminal wraps the lines.
    console = Console() if sys.stdout.isatty() else Console(width=100_000)
    console = Console(width=max(console.width, needed))
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for name in shown:
        table.add_column(name, no_wrap=name == "ID", min_width=least[name], overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[name]) for name in shown))
    with writing("stdout"):
        console.print(table, soft_wrap=False, crop=False)


def _row(info: InstanceInfo) -> dict[str, str]:
    seconds = "" if info.elapsed_secs is None else f"{info.elapsed_secs:.0f}"
    row = {
        "ID": info.id,
        "STATUS": info.status or "",
        "USER": info.username or "",
        "SECONDS": seconds,
        "PAGES": "" if info.kv_pages_used is None else str(info.kv_pages_used),
        "PROGRAM": info.program or "",
        "ARGUMENTS": shlex.join(info.arguments),
    }
    return {name: printable(text) for name, text in row.items()}
