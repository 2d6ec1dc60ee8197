"""What a server keeps of a program that it could not compile."""

from __future__ import annotations

from ...events import Event
from .instance import Instance

__all__ = ["NOT_COMPILED", "Uncompiled"]

NOT_COMPILED = "Failed to compile WASM: failed to parse WebAssembly module"


class Uncompiled:
    """Stands for a program that has a name but could not be compiled. A launch of it is refused."""

    def run(self, _instance: Instance) -> tuple[Event, str]:
        """Never called."""
        raise AssertionError(NOT_COMPILED)
