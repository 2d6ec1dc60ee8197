"""Ctrl-C and SIGTERM, at a moment when they do no harm."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Union

from .._websocket import WebSocket

__all__ = ["Patience"]

RETRY = 0.01  # seconds

#: Not on Windows, where every interruption comes at once.
_ALARM: int | None = getattr(signal, "SIGALRM", None)

_Handler = Union[Any, int, None]


class Patience:
    """While this is in force, an interruption waits for the end of what it would break. A second one doesn't.

    Python raises interruptions between any two steps of the main thread, also in the middle of a message to the
    server. A connection is useless after that, and what runs could not be terminated any more.

    For the main thread only.
    """

    def __init__(self) -> None:
        self._previous: dict[int, _Handler] = {}
        self._is_held = False
        self._postponed: int | None = None

    def __enter__(self) -> Patience:
        signals = [signal.SIGINT, signal.SIGTERM] if _ALARM is not None else []
        for signum in signals:
            self._previous[signum] = signal.signal(signum, self._on_signal)
        if _ALARM is not None:
            self._previous[_ALARM] = signal.signal(_ALARM, self._on_alarm)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if _ALARM is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        if self._postponed is not None and error is None:
            signal.raise_signal(self._postponed)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let no interruption come during the with-block."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._postponed is None and self._must_wait(frame):
            self._postponed = signum
            signal.setitimer(signal.ITIMER_REAL, RETRY)
        else:
            self._interrupt(signum, frame)

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        if self._postponed is None:
            return
        if self._must_wait(frame):
            signal.setitimer(signal.ITIMER_REAL, RETRY)
        else:
            self._interrupt(self._postponed, frame)

    def _must_wait(self, frame: FrameType | None) -> bool:
        while frame is not None and not self._is_held:
            if frame.f_code is WebSocket.send.__code__:
                return True
            frame = frame.f_back
        return self._is_held

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        self._postponed = None
        handler = self._previous[signum]
        if callable(handler):
            handler(signum, frame)
