"""Why the engine does not run."""

from __future__ import annotations

__all__ = ["EngineError", "EngineUnavailableError"]


class EngineError(RuntimeError):
    """The engine did not start, or took too long. The text has the last lines of its log."""


class EngineUnavailableError(EngineError):
    """Something that the engine needs is missing on this machine. The text says what, and how to install it.

    Attributes:
        reason: what is missing, in one line.
        hint: how to get it, in one line: a command, where there is one.
    """

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(f"{reason}\nhint: {hint}")
        self.reason = reason
        self.hint = hint

    def __reduce__(self) -> tuple[type[EngineUnavailableError], tuple[str, str]]:
        return type(self), (self.reason, self.hint)
