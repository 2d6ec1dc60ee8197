"""What the caller of a ``map`` or a batch iterates over: outcomes, recorded if need be, without those to skip."""

from __future__ import annotations

import logging
from collections.abc import Generator
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import PieValueError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OnError", "Results", "check_on_error"]

logger = logging.getLogger("pie_sync.protocol")

#: ``"raise"``, ``"yield"`` or ``"skip"``.
OnError = str


def check_on_error(on_error: OnError | None, return_exceptions: bool) -> OnError:
    """Return what is to happen to failed inputs, from both arguments that say so.

    Raises:
        PieValueError: it is none of the three, or the arguments contradict each other.
    """
    if on_error is None:
        return "yield" if return_exceptions else "raise"
    if on_error not in ("raise", "yield", "skip"):
        raise PieValueError(f'on_error must be "raise", "yield" or "skip", not {on_error!r}')
    if return_exceptions and on_error != "yield":
        raise PieValueError(
            f"return_exceptions=True means on_error='yield', and contradicts on_error={on_error!r}"
        )
    return on_error


T = TypeVar("T")


class Results(Generator[T, None, None], Generic[T]):
    """The generator of a batch's outcomes.

    Args:
        outcomes: all outcomes, in order.
        on_error: ``"skip"`` leaves out the errors among them.
        on_end: called once when the outcomes have ended, have failed, or are not wanted any more; but not when the
            generator is collected as garbage.

    Attributes:
        skipped: how many outcomes were left out, up to now.
    """

    def __init__(
        self, outcomes: Generator[T, None, None], on_error: OnError, on_end: Callable[[], None] | None = None
    ) -> None:
        assert isinstance(outcomes, GeneratorType)
        self.skipped: int = 0
        self._outcomes: GeneratorType[T, None, None] = outcomes
        self._skips = on_error == "skip"
        self._on_end = on_end
        self._has_ended = False

    def send(self, value: None) -> T:
        """Return the next outcome; see ``generator.send``."""
        try:
            while True:
                outcome = self._outcomes.send(value)
                if not (self._skips and isinstance(outcome, Exception)):
                    return outcome
                self.skipped += 1
        finally:
            self._close_if_ended()

    def __next__(self) -> T:
        # send(None), with fewer steps for each result.
        try:
            outcome = next(self._outcomes)
        except BaseException:
            self._close_if_ended()
            raise
        if not (self._skips and isinstance(outcome, Exception)):
            return outcome
        self.skipped += 1
        return self.send(None)

    def throw(self, *exception: Any) -> T:
        """Raise an exception where the generator waits; see ``generator.throw``."""
        try:
            return self._outcomes.throw(*exception)
        finally:
            self._close_if_ended()

    def close(self) -> None:
        """End the batch."""
        self._outcomes.close()
        self._close_if_ended()

    def _close_if_ended(self) -> None:
        # Not ended: it has yielded, or another thread is in it, and then this call has failed.
        if self._outcomes.gi_frame is None and not self._has_ended:
            self._has_ended = True
            if self.skipped:
                logger.info("%d inputs have failed and were skipped", self.skipped)
            self._ended()

    def _ended(self) -> None:
        """Let go of what belongs to the batch. Called once, but not when the generator is collected as garbage."""
        if self._on_end is not None:
            self._on_end()
