"""How far a batch is: counted where outcomes arrive, told to a function of the user's or shown as a bar."""

from __future__ import annotations

import logging
from collections.abc import Sized
from dataclasses import dataclass
from time import monotonic
from typing import Any, Callable, Union

from .._support.signal_handlers import is_from_signal_handler

__all__ = ["BatchProgress", "ProgressMeter", "ProgressOption", "meter_of"]

logger = logging.getLogger("pie_sync.protocol")

#: For how many seconds at least a change is not told again: a batch may have thousands a second.
_INTERVAL = 0.1


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is.

    Attributes:
        done: how many inputs have an outcome, failures included, and those that a journal had already.
        failed: how many of them have failed for good.
        running: how many inputs are being worked on.
        total: how many inputs there are; None where that is not known.
        per_second: outcomes per second since the batch began here; 0.0 before the first.
        seconds_left: at that rate; None where it can't be told.
        unreachable: the addresses of the servers that can't be reached at the moment.
    """

    done: int
    failed: int
    running: int
    total: int | None
    per_second: float
    seconds_left: float | None
    unreachable: tuple[str, ...] = ()


#: A function to call, True for a bar, or False or None for neither.
ProgressOption = Union[bool, Callable[[BatchProgress], object], None]


class ProgressMeter:
    """Counts the outcomes of one batch, and tells of them at most every 0.1 s. Used by one thread at a time.

    Args:
        tell: see :data:`ProgressOption`.
        inputs: the inputs; their number is known if they have a ``len``.

    Raises:
        TypeError: ``tell`` is none of these.
        ImportError: there is no tqdm for a bar.
    """

    def __init__(self, tell: ProgressOption, inputs: object = None) -> None:
        self.total = len(inputs) if isinstance(inputs, Sized) else None
        self._bar: _Bar | None = None
        self._tell: Callable[[BatchProgress], object] | None = None
        if tell is True:
            self._tell = self._bar = _Bar(self.total)
        elif callable(tell):
            self._tell = tell
        elif tell is not None and tell is not False:
            raise TypeError(f"progress must be a function, or True for a bar, not {type(tell).__name__}")
        self.unreachable: tuple[str, ...] = ()
        self._done = self._failed = self._kept = 0
        self._begin: float | None = None
        self._next = 0.0
        self._told: tuple[Any, ...] = ()

    def count(self, *, failed: bool, kept: bool = False) -> None:
        """Count an outcome. ``kept``: it is from an earlier run."""
        self._done += 1
        self._failed += failed
        self._kept += kept

    def tell(self, running: int, *, at_once: bool = False) -> None:
        """Tell how far the batch is, if that has changed and 0.1 s have passed.

        What the function raises is raised here, and the function is not called again.
        """
        function = self._tell
        if function is None:
            return
        now = monotonic()
        if self._begin is None:
            self._begin = now
        state = (self._done, self._failed, running, self.unreachable)
        if state == self._told or (now < self._next and not at_once):
            return
        self._told, self._next = state, now + _INTERVAL
        new = self._done - self._kept
        rate = new / (now - self._begin) if now > self._begin else 0.0
        left = None if self.total is None or not rate else max(0, self.total - self._done) / rate
        try:
            function(BatchProgress(self._done, self._failed, running, self.total, rate, left, self.unreachable))
        except BaseException:
            self._tell = None
            raise

    def close(self) -> None:
        """Tell the last state, and end the bar.

        What the function raises is only logged: the batch has ended, maybe with an error of its own.
        """
        bar, self._bar = self._bar, None
        try:
            self.tell(0, at_once=True)
        except Exception as error:
            if is_from_signal_handler(error):
                raise
            logger.warning("the function that is told the progress has failed at the last state", exc_info=True)
        finally:
            self._tell = None
            if bar is not None:
                bar.close()


def meter_of(progress: ProgressOption | ProgressMeter, inputs: object) -> ProgressMeter:
    """Return a meter for ``inputs``; or ``progress`` itself if that is one."""
    return progress if isinstance(progress, ProgressMeter) else ProgressMeter(progress, inputs)


class _Bar:
    """A bar of tqdm, on a terminal or in a notebook."""

    def __init__(self, total: int | None) -> None:
        try:
            from tqdm.auto import tqdm  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ImportError("progress=True needs tqdm: pip install 'pie-sync[progress]'") from error

        class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
            monitor_interval = 0  # no thread that looks after it: the batch itself calls often enough

        self._bar = Bar(total=total, unit=" inputs")

    def __call__(self, progress: BatchProgress) -> None:
        notes = {"failed": progress.failed} if progress.failed else {}
        if progress.unreachable:
            notes["unreachable"] = len(progress.unreachable)
        self._bar.set_postfix(notes, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        self._bar.close()
