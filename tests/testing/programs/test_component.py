"""Components, as far as LocalServer goes with them."""

from __future__ import annotations

import pytest
import wasmtime

from pie_sync.testing._programs.component import ComponentProgram


def component(*exports: str) -> bytes:
    lines = " ".join(f'(export "{name}" (instance $empty))' for name in exports)
    return bytes(wasmtime.wat2wasm(f"(component (instance $empty) {lines})"))


@pytest.mark.parametrize(
    ("exports", "name", "found"),
    [
        (["pie:hello/run"], "hello", True),
        (["first", "pie:hello/run@0.3.0"], "hello", True),
        (["pie:hello/run"], "hell", False),
        (["pie:hello/runs"], "hello", False),
        (["inferlet:core/run"], "core", False),
        ([], "hello", False),
    ],
)
def test_which_run_it_exports(exports: list[str], name: str, found: bool) -> None:
    program = ComponentProgram(component(*exports))
    assert program.exports == exports
    assert program.exports_run(name) == found


@pytest.mark.parametrize("end", [8, -1])
def test_what_can_not_be_compiled(end: int) -> None:
    wasm = component("pie:hello/run")[:end] + b"\0\5"
    with pytest.raises(ValueError, match="failed to parse"):
        ComponentProgram(wasm)
