"""Progress: bars on a terminal; elsewhere, where they would be noise, now and then a line for a batch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Callable

from ._output import say

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from .._runs.progress import BatchProgress

__all__ = ["ProgressMode", "batch_progress", "upload_bar"]


@contextmanager
def upload_bar(description: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show the progress of an upload, with its rate and the time left.

    Yields:
        The function to pass to an upload as ``progress``; None if stderr is no terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import DownloadColumn, TransferSpeedColumn  # noqa: PLC0415 - takes 0.1 s, and is seldom needed

    with _bar(description, None, DownloadColumn(), TransferSpeedColumn()) as update:
        yield update


class ProgressMode(str, Enum):
    """Whether to show how far a batch is: ``auto`` is a bar on a terminal, and a line every 10 s elsewhere."""

    auto = "auto"
    always = "always"
    never = "never"


#: How often to write a line where there is no terminal, in seconds; "always" wants to see something soon.
_LINE_INTERVALS = {ProgressMode.auto: 10.0, ProgressMode.always: 1.0}


@contextmanager
def batch_progress(description: str, mode: ProgressMode) -> Iterator[Callable[[BatchProgress], None] | None]:
    """Show how far a batch is, with failures, rate and the time left.

    Args:
        description: the text beside the bar.
        mode: whether to show anything.

    Yields:
        A function to call with the progress; None if nothing is to be shown.
    """
    if mode is ProgressMode.never:
        yield None
        return
    if not sys.stderr.isatty():
        yield _Lines(_LINE_INTERVALS[mode])
        return
    from rich.progress import MofNCompleteColumn, TextColumn  # noqa: PLC0415

    with _bar(description, None, MofNCompleteColumn(), TextColumn("{task.fields[notes]}", markup=False)) as update:
        yield lambda now: update(now.done, now.total, _notes(now))


class _Lines:
    """Writes a line every so often, for a log file."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = monotonic() + interval

    def __call__(self, now: BatchProgress) -> None:
        if monotonic() < self._next:
            return
        self._next = monotonic() + self._interval
        of = "" if now.total is None else f" of {now.total}"
        left = "" if now.seconds_left is None else f", {now.seconds_left:.0f} s left"
        say(f"[{now.done}{of} done, {_notes(now)}{left}]")


def _notes(now: BatchProgress) -> str:
    failed = f"{now.failed} failed, " if now.failed else ""
    return f"{failed}{now.per_second:.{1 if now.per_second < 100 else 0}f}/s"


@contextmanager
def _bar(description: str, total: int | None, *columns: ProgressColumn) -> Iterator[Callable[..., None]]:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    # The description may hold the name of a file, which is no markup.
    text = TextColumn("{task.description}", markup=False)
    # Transient: the bar is removed at its end, so that only results stay on the screen.
    bar = Progress(
        text, BarColumn(), *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
    )
    with bar:
        task = bar.add_task(description, total=total, notes="")
        yield lambda done, of, notes="": bar.update(task, completed=done, total=of, notes=notes)
