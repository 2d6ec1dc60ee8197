"""The ``pie-sync`` command. It needs the extra ``cli``; nothing else in pie_sync imports this package."""

from __future__ import annotations

import sys

from ._interruption import INTERRUPTION
from ._streams import open_missing_streams

__all__ = ["main"]


def main() -> None:
    """Run the command with this process's arguments, and exit with its exit code."""
    open_missing_streams()
    INTERRUPTION.handle()
    try:
        import rich  # noqa: F401, PLC0415 - imported here, so that a missing extra is reported once and early
        import typer  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        sys.exit(
            f"error: the pie-sync command needs {error.name}, which is not installed\n"
            "hint: pip install 'pie-sync[cli]'"
        )
    from ._app import run  # noqa: PLC0415

    run()
