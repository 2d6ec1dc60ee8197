"""Compiles components, and runs them.

As with core modules, each instance has its own engine, and a component is compiled once and then loaded for each
instance.
"""

from __future__ import annotations

import threading
from typing import Any

import wasmtime
from wasmtime import Config, Engine, Store, WasiConfig, WasmtimeError
from wasmtime.component import Component, Func, Linker, Variant

from ...events import Event
from .component_imports import Imports, Session
from .instance import Instance

__all__ = ["CompiledComponent", "ComponentRun"]

if not hasattr(Linker, "add_wasip2"):
    raise ImportError("this release of wasmtime has no WASI for components")

#: How many linear memories an instance may have: a component may be linked from several modules.
MAX_MEMORIES = 16

# Held while callbacks are added or removed: wasmtime keeps Python callbacks in tables for the process, and its
# older releases change those tables without a lock. Core modules have tables of their own.
_callback_table_lock = threading.Lock()


class CompiledComponent:
    """A component, ready to be loaded by any number of engines.

    Args:
        wasm: the component in its binary form.

    Attributes:
        exports: the names of its exports.
        serialized: the machine code.
        imports: what it imports.

    Raises:
        ValueError: wasmtime can't compile it.
    """

    def __init__(self, wasm: bytes) -> None:
        engine = new_engine()
        try:
            component = Component(engine, wasm)
        except WasmtimeError as error:
            raise ValueError(str(error)) from error
        self.exports = list(component.type.exports(engine))
        self.imports = Imports(engine, component)
        self.serialized = bytes(component.serialize())


class ComponentRun:
    """One run of a component, in one thread. Frees what is wasmtime's at its end, without the garbage collector.

    A call that waits inside of wasmtime, such as a sleep, is not interrupted when the instance is terminated: the
    thread ends after that call. The client is not kept waiting.

    Args:
        compiled: the component.
        export: the name of the interface that has the function ``run``.
        memory_limit: bytes that each linear memory may have.
        instance: the instance.
    """

    def __init__(self, compiled: CompiledComponent, export: str, memory_limit: int, instance: Instance) -> None:
        self._export = export
        self._instance = instance
        self._session = Session(instance)
        self._engine = new_engine()
        self._component = Component.deserialize(self._engine, compiled.serialized)
        self._linker = Linker(self._engine)
        self._linker.allow_shadowing = True
        self._store = Store(self._engine)
        # A table element takes up to 16 bytes of memory outside of the linear memory.
        self._store.set_limits(memory_size=memory_limit, memories=MAX_MEMORIES, table_elements=memory_limit // 16)
        self._imports = compiled.imports

    def run(self) -> tuple[Event, str]:
        """Run the function to its end, and return the terminal event and its text."""
        try:
            self._store.set_wasi(WasiConfig())  # no files, no environment, no arguments
            self._store.set_epoch_deadline(1)
            # Call this after set_epoch_deadline(), so that a termination stops the program, also an earlier one.
            self._instance.on_terminate(self._engine.increment_epoch)
            self._linker.add_wasip2()
            with _callback_table_lock:
                self._imports.define(self._linker, self._session)
            return self._call()
        finally:
            self._instance.on_terminate(None)
            with _callback_table_lock:
                self._linker.close()
                self._store.close()
            self._component.close()
            self._engine.close()

    def _call(self) -> tuple[Event, str]:
        try:
            function = self._function()
        except WasmtimeError as error:
            # Only the text of wasmtime's error shows that an allocation was refused.
            refused = "exceeds memory limits" in str(error) or "exceeds table limits" in str(error)
            return Event.OutOfResources if refused else Event.Exception, str(error)
        if function is None:
            return Event.Exception, "No 'run' function found"
        arguments = self._instance.arguments if self._instance.is_json else []
        try:
            result = function(self._store, *arguments)
            function.post_return(self._store)
        except (WasmtimeError, wasmtime.Trap, TypeError) as error:
            # Newer releases of wasmtime add the cause, which no server tells.
            text = self._session.refused or str(error).partition("\n\nCaused by:")[0]
            return Event.Exception, f"Call error: {text}"
        return self._end_with(result)

    def _function(self) -> Func | None:
        instance = self._linker.instantiate(self._store, self._component)
        interface = self._component.get_export_index(self._export)
        index = self._component.get_export_index("run", interface)
        return None if index is None else instance.get_func(self._store, index)

    def _end_with(self, result: Any) -> tuple[Event, str]:
        """Return the end of an instance whose ``run`` has returned.

        wasmtime marks a result as good or bad where its type doesn't tell: where both have a text. On the instance
        protocol only a bad one has.
        """
        if isinstance(result, Variant):
            return Event.Completed if result.tag == "ok" else Event.Exception, str(result.payload or "")
        if result is None:
            return Event.Completed, self._session.returned
        return Event.Exception, str(result)


def new_engine() -> Engine:
    """Return an engine whose programs can be interrupted."""
    config = Config()
    config.wasm_component_model = True
    config.epoch_interruption = True
    return Engine(config)
