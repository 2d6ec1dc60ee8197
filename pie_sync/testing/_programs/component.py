"""WebAssembly components: read and compiled, but not run."""

from __future__ import annotations

from ...events import Event
from .instance import Instance

__all__ = ["MAGIC", "ComponentProgram"]

#: What a component in its binary form begins with.
MAGIC = b"\0asm\x0d\0\1\0"


class ComponentProgram:
    """A component.

    Args:
        wasm: the component in its binary form.

    Attributes:
        exports: the names of its exports.

    Raises:
        ValueError: wasmtime can't compile it.
    """

    def __init__(self, wasm: bytes) -> None:
        # Imported here, since wasmtime is slow to load and many servers run Python programs only.
        import wasmtime  # noqa: PLC0415
        from wasmtime.component import Component  # noqa: PLC0415

        config = wasmtime.Config()
        config.wasm_component_model = True
        engine = wasmtime.Engine(config)
        try:
            self.exports = list(Component(engine, wasm).type.exports(engine))
        except wasmtime.WasmtimeError as error:
            raise ValueError(str(error)) from error

    def exports_run(self, name: str) -> bool:
        """Whether there is an export ``pie:{name}/run``, with or without a version."""
        return any(export.partition("@")[0] == f"pie:{name}/run" for export in self.exports)

    def run(self, _instance: Instance) -> tuple[Event, str]:
        """Fail."""
        return Event.Exception, "LocalServer does not run components: a real server of this generation does"
