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
WORD = 12  # characters that a column that wraps has at least, if its texts are that long
WRAPPED = ("PROGRAM", "ARGUMENTS")


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
    rows = [_row(info) for info in instances]
    # A column that is empty for all instances is left out.
    shown = [name for name in rows[0] if name == "ARGUMENTS" or any(row[name] for row in rows)]
    if sys.stdout.isatty():
        width = _terminal_width()
        if _width_of(shown, rows) > width and len({row["USER"] for row in rows}) == 1:
            shown = [name for name in shown if name != "USER"]
        if _width_of(shown, rows) > width:
            shown = [name for name in shown if name != "PAGES"]
        if _width_of(shown, rows) > width:
            _print_stacked(rows)
            return
    else:
        width = 100_000
    _print_columns(shown, rows, width)


def _terminal_width() -> int:
    from rich.console import Console  # noqa: PLC0415 - takes 0.1 s, and only this command needs it

    return Console().width


def _least(name: str, rows: Sequence[dict[str, str]]) -> int:
    """Return the width that a column needs: all of its texts, but of a text that may wrap only a word."""
    width = max(len(row[name]) for row in rows)
    return max(len(name), min(width, WORD) if name in WRAPPED else width)


def _width_of(shown: Sequence[str], rows: Sequence[dict[str, str]]) -> int:
    return sum(_least(name, rows) for name in shown) + GAP * (len(shown) - 1)


def _print_columns(shown: Sequence[str], rows: Sequence[dict[str, str]], width: int) -> None:
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for name in shown:
        # An id is copied from here, so that it is never cut.
        table.add_column(name, no_wrap=name not in WRAPPED, min_width=_least(name, rows), overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[name]) for name in shown))
    with writing("stdout"):
        Console(width=width).print(table, soft_wrap=False, crop=False)


def _print_stacked(rows: Sequence[dict[str, str]]) -> None:
    """Print each instance on lines of its own. The terminal wraps them."""
    for row in rows:
        details = [row["STATUS"], row["USER"]]
        details += [f"{row[name]} {unit}" for name, unit in (("SECONDS", "s"), ("PAGES", "pages")) if row[name]]
        lines = [", ".join(filter(None, details)), " ".join(filter(None, [row["PROGRAM"], row["ARGUMENTS"]]))]
        echo("\n".join([row["ID"], *(f"  {line}" for line in lines if line)]))


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
