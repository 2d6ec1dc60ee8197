"""Progress bars, on a terminal only: in a file or a log they would be noise."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

__all__ = ["counting_bar", "upload_bar"]


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


@contextmanager
def counting_bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how many items of how many are done, with the time left.

    Args:
        description: the text beside the bar.
        total: the number of items; None if it is not known.

    Yields:
        A function to call with the number of items that are done.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import MofNCompleteColumn  # noqa: PLC0415

    with _bar(description, total, MofNCompleteColumn()) as update:
        yield lambda done: update(done, total)


@contextmanager
def _bar(
    description: str, total: int | None, *columns: ProgressColumn
) -> Iterator[Callable[[int, int | None], None]]:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    # The description may hold the name of a file, which is no markup.
    text = TextColumn("{task.description}", markup=False)
    # Transient: the bar is removed at its end, so that only results stay on the screen.
    bar = Progress(
        text, BarColumn(), *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
    )
    with bar:
        task = bar.add_task(description, total=total)
        yield lambda done, of: bar.update(task, completed=done, total=of)
