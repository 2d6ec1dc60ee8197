"""WebAssembly programs: WASI preview 1 command modules, run by wasmtime.

Each instance has its own engine, since incrementing an engine's epoch stops everything that runs in that engine. A
module is compiled once, and then loaded for each instance, which takes less than a millisecond.
"""

from __future__ import annotations

import threading

import wasmtime
from wasmtime import Config, Engine, ExitTrap, Func, Linker, Memory, Module, Store, WasiConfig, WasmtimeError

from ...events import Event
from .instance import Instance
from .wasi import HostCalls

__all__ = ["InvalidModuleError", "WasmProgram"]

WASM_MAGIC = b"\0asm"
WASM_PAGE_SIZE = 65536

# Held while callbacks are added or removed: wasmtime keeps Python callbacks in one table for the process, and its
# older releases change that table without a lock.
_callback_table_lock = threading.Lock()


class InvalidModuleError(ValueError):
    """The bytes are not a WebAssembly module."""


class WasmProgram:
    """A compiled module.

    Args:
        wasm: the module in its binary form.
        memory_limit: bytes of linear memory that one instance may have.

    Raises:
        InvalidModuleError: wasmtime can't compile it.
    """

    def __init__(self, wasm: bytes, memory_limit: int) -> None:
        # wasmtime would also accept the text form, which a real server refuses.
        if not wasm.startswith(WASM_MAGIC):
            raise InvalidModuleError("no WebAssembly module")
        try:
            self._compiled = bytes(Module(_new_engine(), wasm).serialize())
        except WasmtimeError as error:
            raise InvalidModuleError(str(error)) from error
        self._memory_limit = memory_limit

    def run(self, instance: Instance) -> tuple[Event, str]:
        """Run the module's ``_start`` to its end."""
        return _Run(self._compiled, self._memory_limit, instance).run()


class _Run:
    """One run of a module, in one thread. Frees all wasmtime objects at its end, without the garbage collector."""

    def __init__(self, compiled: bytes, memory_limit: int, instance: Instance) -> None:
        self._memory_limit = memory_limit
        self._instance = instance
        self._host_calls = HostCalls(instance)
        self._engine = _new_engine()
        self._module = Module.deserialize(self._engine, compiled)
        self._store = Store(self._engine)
        self._linker = Linker(self._engine)

    def run(self) -> tuple[Event, str]:
        try:
            self._prepare()
            # Call this after set_epoch_deadline(), so that a termination stops the program, also an earlier one.
            self._instance.on_terminate(self._engine.increment_epoch)
            outcome = self._call_start()
            self._host_calls.finish()
            return outcome
        finally:
            self._instance.on_terminate(None)
            with _callback_table_lock:
                self._linker.close()
                self._store.close()
            self._module.close()
            self._engine.close()

    def _prepare(self) -> None:
        wasi = WasiConfig()  # no files, no environment
        wasi.argv = [self._instance.program_name, *self._instance.arguments]
        self._store.set_wasi(wasi)
        # A table element takes up to 16 bytes of memory outside the linear memory.
        self._store.set_limits(memory_size=self._memory_limit, memories=1, table_elements=self._memory_limit // 16)
        self._store.set_epoch_deadline(1)
        self._linker.allow_shadowing = True
        self._linker.define_wasi()
        with _callback_table_lock:
            self._host_calls.define(self._linker)

    def _call_start(self) -> tuple[Event, str]:
        try:
            exports = self._linker.instantiate(self._store, self._module).exports(self._store)
        except (WasmtimeError, wasmtime.Trap) as error:
            # Only the text of wasmtime's error shows that an allocation was refused.
            refused = "exceeds memory limits" in str(error) or "exceeds table limits" in str(error)
            return Event.OutOfResources if refused else Event.Exception, str(error)
        start = exports.get("_start")
        if not isinstance(start, Func):
            return Event.Exception, "the module has no _start function"
        try:
            start(self._store)
        except ExitTrap as exit_trap:
            if exit_trap.code == 0:
                return Event.Completed, ""
            text = f"exit code {exit_trap.code}"
        except (WasmtimeError, wasmtime.Trap) as error:
            text = str(error)
        else:
            return Event.Completed, ""
        memory = exports.get("memory")
        if isinstance(memory, Memory) and self._is_full(memory):
            return Event.OutOfResources, f"memory limit of {self._memory_limit} bytes reached: {text}"
        return Event.Exception, text

    def _is_full(self, memory: Memory) -> bool:
        """Whether the memory could not grow by another page.

        wasmtime does not report refused requests. So a program that failed because a large request was refused
        looks like any other failure if there was room for one more page.
        """
        return memory.data_len(self._store) + WASM_PAGE_SIZE > self._memory_limit


def _new_engine() -> Engine:
    config = Config()
    config.epoch_interruption = True
    return Engine(config)
