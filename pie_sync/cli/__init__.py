"""The ``pie-sync`` command. Needs the extra ``cli``; nothing else in pie_sync imports it."""

from __future__ import annotations

import sys

from ._interruption import INTERRUPTION

__all__ = ["main"]


def main() -> None:
    """Run the command with this process's arguments, and exit with its exit code."""
    INTERRUPTION.handle()
    try:
        import rich  # noqa: F401, PLC0415 - asked for here, so that its absence is told once and early
        import typer  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        sys.exit(
            f"error: the pie-sync command needs {error.name}, which is not installed\n"
            "cure: pip install 'pie-sync[cli]'"
        )
    from ._app import run  # noqa: PLC0415

    run()
