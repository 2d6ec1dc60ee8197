"""Components for LocalServer: those that were run on real servers, and small ones of one interface."""

from __future__ import annotations

from pathlib import Path

import wasmtime

from . import programs_0_4

#: For Pie 0.2: does what its arguments say, one after the other. See the file.
KIT = bytes(wasmtime.wat2wasm(Path(__file__).with_name("kit.wat").read_text()))


def program_0_4(name: str, export: str | None = None) -> bytes:
    """A component for Pie 0.3 and 0.4, under the name of the export if one is given."""
    return bytes(wasmtime.wat2wasm(programs_0_4.component(name, programs_0_4.BODIES[name], export)))


def exporting(*names: str) -> bytes:
    """A component that exports empty interfaces."""
    lines = " ".join(f'(export "{name}" (instance $empty))' for name in names)
    return bytes(wasmtime.wat2wasm(f"(component (instance $empty) {lines})"))


def component(body: str = "", imports: str = "", functions: str = "", memory: str = "1") -> bytes:
    """A component for Pie 0.2 whose ``run`` has a body, and succeeds after it.

    Args:
        body: code, which can call ``$call`` if there is one.
        imports: what the component imports.
        functions: the definition of a core function ``$call`` without arguments and results, if there is one.
        memory: the memory's limits.
    """
    imported = '(import "h" "call" (func $call))' if functions else ""
    given = '(with "h" (instance (export "call" (func $call))))' if functions else ""
    return bytes(
        wasmtime.wat2wasm(f"""
(component {imports} {functions}
  (core module $code {imported}
    (memory (export "memory") {memory})
    (func (export "run") (result i32) {body} (i32.const 0)))
  (core instance $program (instantiate $code {given}))
  (alias core export $program "memory" (core memory $bytes))
  (func $run (result (result (error string)))
    (canon lift (core func $program "run") (memory $bytes)))
  (instance $interface (export "run" (func $run)))
  (export "inferlet:core/run" (instance $interface)))""")
    )


def calling(interface: str, function: str) -> bytes:
    """A component for Pie 0.2 that calls a function of an interface, which has neither arguments nor a result."""
    return component(
        "(call $call)",
        f'(import "{interface}" (instance $i (export "{function}" (func))))',
        f'(core func $call (canon lower (func $i "{function}")))',
    )
