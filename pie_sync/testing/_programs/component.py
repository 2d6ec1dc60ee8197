"""WebAssembly components: the programs that real servers run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...events import Event
from .instance import Instance, Program

if TYPE_CHECKING:
    from .component_run import CompiledComponent

__all__ = ["ComponentProgram", "is_component"]

#: What a component in its binary form begins with.
MAGIC = b"\0asm\x0d\0\1\0"

#: The export that servers of the instance protocol look for.
CORE_RUN = "inferlet:core/run"

OLD_WASMTIME = "LocalServer needs wasmtime 40 or newer to run a component: pip install 'wasmtime>=40'"


def is_component(wasm: bytes) -> bool:
    """Whether these bytes are a component by their beginning, and no core module."""
    return wasm.startswith(MAGIC)


class ComponentProgram:
    """A compiled component. As a program it runs :data:`CORE_RUN`.

    Args:
        wasm: the component in its binary form.
        memory_limit: bytes that each of its linear memories may have.

    Raises:
        ValueError: wasmtime can't compile it.
    """

    def __init__(self, wasm: bytes, memory_limit: int) -> None:
        self._memory_limit = memory_limit
        self._compiled: CompiledComponent | None = None
        try:
            # Imported here, since wasmtime is slow to load and many servers run Python programs only.
            from .component_run import CompiledComponent  # noqa: PLC0415
        except ImportError:
            return
        self._compiled = CompiledComponent(wasm)

    def exporting(self, interface: str) -> Program | None:
        """Return the program that runs an interface's ``run``, None if the component does not export it.

        Args:
            interface: the interface's name, without a version; exported with any version or without one.
        """
        if self._compiled is None:
            return _CanNotRun(Event.ServerError, OLD_WASMTIME)
        for export in self._compiled.exports:
            if export.partition("@")[0] == interface:
                return _Runner(self._compiled, export, self._memory_limit)
        return None

    def run(self, instance: Instance) -> tuple[Event, str]:
        """Run the component as a server of the instance protocol does."""
        program = self.exporting(CORE_RUN) or _CanNotRun(Event.Exception, "No 'run' function found")
        return program.run(instance)


class _Runner:
    """Runs one export of a component."""

    def __init__(self, compiled: CompiledComponent, export: str, memory_limit: int) -> None:
        self._compiled = compiled
        self._export = export
        self._memory_limit = memory_limit

    def run(self, instance: Instance) -> tuple[Event, str]:
        from .component_run import ComponentRun  # noqa: PLC0415

        return ComponentRun(self._compiled, self._export, self._memory_limit, instance).run()


class _CanNotRun:
    """Ends each instance with the same event."""

    def __init__(self, event: Event, text: str) -> None:
        self._end = event, text

    def run(self, _instance: Instance) -> tuple[Event, str]:
        return self._end
