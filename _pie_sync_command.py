"""Entry point of the script ``pie-sync``: handles Ctrl-C before the slow imports begin.

This module is outside the package, because importing any part of ``pie_sync`` imports the whole client.
"""

from __future__ import annotations

import os
import signal

__all__ = ["main"]


def main() -> None:
    """Run the command with this process's arguments, and exit with its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Nothing has begun that needs an orderly end. `pie_sync.cli` replaces this handler.
        signal.signal(signal.SIGINT, lambda signum, frame: os._exit(128 + signum))
    from pie_sync.cli import main as run  # noqa: PLC0415

    run()
