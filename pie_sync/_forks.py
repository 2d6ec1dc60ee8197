"""Whether a fork lies between two moments: whoever finds one behind it may not touch its parent's socket."""

from __future__ import annotations

import os

__all__ = ["count"]

#: How many forks made this process out of the one that imported this module. To compare two counts takes a tenth
#: of the time of ``os.getpid()``, which is a system call for each request.
count = 0


def _forked() -> None:
    global count  # noqa: PLW0603 - it is the process that was forked
    count += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
