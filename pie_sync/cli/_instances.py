"""The commands about instances that run already: ``list`` and ``terminate``."""

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
from ._connection import connected
from ._failures import printable
from ._lookup import find
from ._output import say
from ._settings import Settings

GAP = 2  # spaces between the columns of the table


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

    A server up to Pie 0.2 also lists those that have ended while they were detached, until somebody attaches;
    Pie 0.5 lists everybody's.
    """
    with connected(Settings.of(options)) as client:
        instances = client.list_instances()
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(info) for info in instances], indent=2))
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
    instances: Annotated[list[str], typer.Argument(metavar="ID...", help="Their ids, or how they begin.")],
) -> None:
    """End instances."""
    with connected(Settings.of(options)) as client:
        # All are looked up first: a mistake in one of them ends none.
        for instance_id in [find(client, prefix) for prefix in instances]:
            client.terminate_instance(instance_id)
            say(f"[terminated {printable(instance_id)}]")


def _print_table(instances: Sequence[InstanceInfo]) -> None:
    from rich.console import Console  # noqa: PLC0415 - costs 0.1 s, which the other commands need not spend
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    rows = [_row(info) for info in instances]
    # What no instance has is no column.
    widths = {name: max(len(row[name]) for row in rows) for name in rows[0]}
    shown = [name for name, width in widths.items() if width or name == "ARGUMENTS"]
    console = Console() if sys.stdout.isatty() else Console(width=100_000)
    # The arguments, which may be long, come last, and are cut on a terminal that is too narrow for them.
    room = console.width - sum(max(widths[name], len(name)) + GAP for name in shown[:-1])
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for name in shown:
        is_last = name == shown[-1]
        # rich up to 14 would rather cut short the title of another column than those arguments.
        table.add_column(
            name, no_wrap=True, min_width=len(name), max_width=max(room, len(name)) if is_last else None
        )
    for row in rows:
        table.add_row(*(Text(row[name]) for name in shown))
    console.print(table)


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
