"""Ctrl-C and SIGTERM: the first one ends in an orderly way what was begun, a second one leaves at once.

Python raises ``KeyboardInterrupt`` between any two steps of the main thread. That is good enough for a command
that only asks the server something: the connection is closed, and that's all. But an instance that was launched
just now would go on running. So whoever launches holds interruptions off, and asks for them where they do no harm.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

__all__ = ["INTERRUPTION", "NAP", "Interruption", "Terminated"]

#: For how many seconds the main thread may wait without a look around. A signal that arrives in the very moment in
#: which a thread begins to wait does not wake it.
NAP = 0.1

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM: everything ends in the same orderly way as with Ctrl-C."""


class Interruption:
    """What becomes of an interruption. For the main thread only, where Python handles all signals.

    Before a command begins its work, and after it, there is nothing to put in order: the process ends at once.
    """

    def __init__(self) -> None:
        # The first signal that came while the command was at work.
        self._received: int | None = None
        self._is_at_work = False
        self._is_held = False

    def handle(self) -> None:
        """Take the signals over, for the rest of the process's life."""
        for signum in SIGNALS:
            # In the background of a script, Ctrl-C is ignored: it's meant for others.
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._on_signal)
        sys.unraisablehook = _show_unraisable

    @contextmanager
    def work(self) -> Iterator[None]:
        """Raise the first interruption in the with-block, which is the work of the command."""
        self._is_at_work = True
        try:
            yield
        finally:
            self._is_at_work = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Raise no interruption in the with-block but by :meth:`check`; one that came is raised at its end."""
        held, self._is_held = self._is_held, True
        try:
            if not held:
                self.check()  # one was raised, and got lost: see _show_unraisable()
            yield
        finally:
            self._is_held = held
        if not held:
            self.check()

    @contextmanager
    def release(self) -> Iterator[None]:
        """Within :meth:`hold`, let interruptions come at any moment again."""
        held, self._is_held = self._is_held, False
        try:
            self.check()
            yield
        finally:
            self._is_held = held

    @property
    def has_come(self) -> bool:
        """Whether there was one."""
        return self._received is not None

    @property
    def exit_code(self) -> int:
        """What the command ends with after an interruption, as shells have it; 1 without one."""
        return 1 if self._received is None else 128 + self._received

    def check(self) -> None:
        """Raise the interruption, if there was one."""
        if self._received == signal.SIGTERM:
            raise Terminated
        if self._received is not None:
            raise KeyboardInterrupt

    def leave(self) -> NoReturn:
        """End the process at once: without a farewell to the server, which may be what keeps us waiting."""
        os._exit(self.exit_code)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._received is not None or not self._is_at_work:
            self._received = signum
            self.leave()
        self._received = signum
        if not self._is_held:
            self.check()


def _show_unraisable(unraisable: Any) -> None:
    # An exception gets lost where Python itself calls a function, as when it collects an object. An interruption
    # that meets such a moment is remembered, and here it would only look like a mistake.
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


#: There is one, because a process has one handler for each signal.
INTERRUPTION = Interruption()
