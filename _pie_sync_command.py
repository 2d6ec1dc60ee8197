"""Where the script ``pie-sync`` begins: with Ctrl-C, and only then with the imports, which take a moment.

It's no part of the package, because whoever imports that has imported the whole client already.
"""

from __future__ import annotations

import os
import signal

__all__ = ["main"]


def main() -> None:
    """Run the command with this process's arguments, and exit with its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Nothing has begun that would have to be ended. `pie_sync.cli` takes over.
        signal.signal(signal.SIGINT, lambda signum, frame: os._exit(128 + signum))
    from pie_sync.cli import main as run  # noqa: PLC0415

    run()
