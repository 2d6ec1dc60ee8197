"""Ctrl-C, SIGTERM and SIGHUP: the first signal ends in an orderly way what was begun, a second one exits at once.

Python raises ``KeyboardInterrupt`` between any two bytecodes of the main thread. That is good enough for a command
that only sends requests: the connection is closed. But an instance that was launched just now would go on running.
So a command that launches instances holds interruptions back, and checks for them where they do no harm.
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

#: The longest uninterrupted wait of the main thread, in seconds. A signal that arrives just as a thread begins to
#: wait does not wake it.
NAP = 0.1

if sys.platform == "win32":
    SIGNALS: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
else:
    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: The signals of which a second one makes the command exit at once. A second SIGHUP is not the user's wish: the
#: shell and the kernel each send one when a terminal is closed.
_INSISTENT = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP (the terminal was closed): everything ends in the same orderly way as with Ctrl-C."""


class Interruption:
    """Turns signals into exceptions. For the main thread only, where Python runs all signal handlers.

    Before a command begins its work, and after it, nothing needs an orderly end: a signal exits at once.
    """

    def __init__(self) -> None:
        # The first signal that arrived while the command was at work.
        self._received: int | None = None
        self._is_at_work = False
        self._is_held = False

    def handle(self) -> None:
        """Install the signal handlers, for the rest of the process's life."""
        for signum in SIGNALS:
            # A shell ignores Ctrl-C for the background jobs of a script, and `nohup` ignores SIGHUP.
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._on_signal)
        sys.unraisablehook = _show_unraisable

    @contextmanager
    def work(self) -> Iterator[None]:
        """Run the command's work in the with-block: the first signal raises an exception in it."""
        self._is_at_work = True
        try:
            yield
        finally:
            self._is_at_work = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold interruptions back in the with-block, but for :meth:`check`; one that came is raised at its end."""
        held, self._is_held = self._is_held, True
        try:
            if not held:
                self.check()  # for an interruption that was raised and got lost: see _show_unraisable()
            yield
        finally:
            self._is_held = held
        if not held:
            self.check()

    @contextmanager
    def release(self) -> Iterator[None]:
        """Let interruptions be raised at any moment again, inside a :meth:`hold`."""
        held, self._is_held = self._is_held, False
        try:
            self.check()
            yield
        finally:
            self._is_held = held

    @property
    def has_come(self) -> bool:
        """Whether a signal has arrived."""
        return self._received is not None

    @property
    def exit_code(self) -> int:
        """The exit code after an interruption, by the convention of shells: 128 + signal number. 1 without one."""
        return 1 if self._received is None else 128 + self._received

    def check(self) -> None:
        """Raise the interruption if a signal has arrived."""
        if self._received is not None:
            raise KeyboardInterrupt if self._received == signal.SIGINT else Terminated

    def leave(self) -> NoReturn:
        """Exit at once, without closing the connection: the server may be what the command waits for."""
        os._exit(self.exit_code)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._received is not None and signum not in _INSISTENT:
            return
        if self._received is not None or not self._is_at_work:
            self._received = signum
            self.leave()
        self._received = signum
        if not self._is_held:
            self.check()


def _show_unraisable(unraisable: Any) -> None:
    # Python drops an exception that is raised in a finalizer. An interruption that meets such a moment is kept in
    # _received, so there is no need to show it.
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


#: The only instance: a process has one handler for each signal.
INTERRUPTION = Interruption()
