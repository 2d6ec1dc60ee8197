"""Components: which of their exports a server runs, and which bytes are one."""

from __future__ import annotations

import sys

import pytest

from pie_sync.testing._programs.component import ComponentProgram, is_component
from tests.testing import programs
from tests.testing.programs.components import KIT, component, exporting
from tests.testing.programs.conftest import Run
from tests.testing.raw import COMPLETED, EXCEPTION, SERVER_ERROR

LIMIT = 2**20


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
    program = ComponentProgram(exporting(*exports), LIMIT)
    assert (program.exporting(f"pie:{name}/run") is not None) == found


@pytest.mark.parametrize("end", [8, -1])
def test_what_can_not_be_compiled(end: int) -> None:
    wasm = exporting("pie:hello/run")[:end] + b"\0\5"
    with pytest.raises(ValueError, match="failed to parse"):
        ComponentProgram(wasm, LIMIT)


def test_a_component_is_told_by_its_beginning() -> None:
    assert is_component(KIT)
    assert not is_component(KIT[:7])
    assert not is_component(programs.SUCCESS)


def test_a_component_of_another_generation_has_no_run_function(run: Run) -> None:
    for exports in (["pie:hello/run"], []):
        assert run(exporting(*exports)) == ("", "", (EXCEPTION, "Runtime error: No 'run' function found"))
    assert run(component()) == ("", "", (COMPLETED, ""))


def test_too_old_a_wasmtime_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pie_sync.testing._programs.component_run", None)
    _, _, (event, text) = run(KIT)
    assert event == SERVER_ERROR
    assert "wasmtime>=40" in text
