"""The run export of components: found and renamed in what wasmtime assembles, and in what hypothesis makes up."""

from __future__ import annotations

import re

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st
from wasmtime.component import Component

from pie_sync._protocol.components import MalformedComponentError, find_run_export, is_component
from tests.real_server.inferlets import ECHO_COMPONENT

# What names of packages are made of: words, each of which begins with a letter.
WORDS = st.from_regex(r"[a-z][a-z0-9]{0,12}(-[a-z][a-z0-9]{0,12}){0,8}", fullmatch=True)
VERSIONS = st.sampled_from(["", "@0.3.0", "@1.20.300"])


def assembled(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def exports(component: bytes) -> list[str]:
    """The names of a component's exports, as wasmtime reads them."""
    config = wasmtime.Config()
    config.wasm_component_model = True
    engine = wasmtime.Engine(config)
    return list(Component(engine, component).type.exports(engine))


def with_exports(*names: str) -> bytes:
    lines = " ".join(f'(export "{name}" (instance $empty))' for name in names)
    return assembled(f"(component (instance $empty) {lines})")


# Exports of many kinds, with and without types, and a nested component that exports a run of its own.
EVERYTHING = """
(component $all
  (component $inner (instance $none) (export "pie:inner/run" (instance $none)))
  (core module $module (memory (export "memory") 1) (func (export "code")))
  (core instance $code (instantiate $module))
  (func $lifted (canon lift (core func $code "code")))
  (type $number u32)
  (type $record (record (field "a" u32)))
  (instance $empty)
  (export "module" (core module $module))
  (export "module-with-type" (core module $module) (core module (export "code" (func))))
  (export "func" (func $lifted))
  (export "func-with-type" (func $lifted) (func))
  (export "number" (type $number))
  (export "number-with-type" (type $number) (type (eq $number)))
  (export "record" (type $record))
  (instance $program (export "run" (func $lifted)))
  (export "pie:outer/run@0.3.0" (instance $program))
  (export "behind" (instance $empty) (instance)))
"""


class TestFinding:
    @given(WORDS, VERSIONS)
    def test_by_name_and_version(self, name, version):
        found = find_run_export(with_exports("first", f"pie:{name}/run{version}", "other:last/run"))
        assert (found.name, found.version) == (name, version)

    def test_among_exports_of_every_kind(self):
        component = assembled(EVERYTHING)
        assert len(exports(component)) == 9
        assert find_run_export(component)[:2] == ("outer", "@0.3.0")

    def test_behind_an_exported_component(self):
        # wat2wasm knows these, wasmtime does not run them.
        inner = '(component $inner) (export "inner" (component $inner))'
        typed = '(export "typed" (component $inner) (component))'
        last = '(instance $empty) (export "pie:last/run" (instance $empty))'
        assert find_run_export(assembled(f"(component {inner} {typed} {last})")).name == "last"

    def test_the_first_of_several(self):
        assert find_run_export(with_exports("pie:one/run", "pie:two/run")).name == "one"

    @pytest.mark.parametrize("name", ["inferlet:core/run", "pie:a/runs", "pie:a/b", "run", "other-pie:a/run"])
    def test_none(self, name):
        assert find_run_export(with_exports(name)) is None
        assert find_run_export(with_exports()) is None

    def test_not_in_a_nested_component(self):
        inner = '(component $inner (instance $none) (export "pie:inner/run" (instance $none)))'
        assert find_run_export(assembled(f"(component {inner} (instance $i (instantiate $inner)))")) is None

    def test_in_a_component_that_real_servers_run(self):
        assert find_run_export(assembled(ECHO_COMPONENT))[:2] == ("inferlet", "@0.3.0")


class TestRenaming:
    @given(WORDS, VERSIONS, WORDS)
    def test_only_the_name_changes(self, old, version, new):
        component = with_exports("first", f"pie:{old}/run{version}", "last")
        renamed = find_run_export(component).renamed(component, new)
        assert exports(renamed) == ["first", f"pie:{new}/run{version}", "last"]
        assert find_run_export(renamed).renamed(renamed, old) == component

    @pytest.mark.parametrize("new", ["a", "pie-sync", "pie-sync-named", "x" * 200])
    def test_every_other_section_stays_what_it_is(self, new):
        component = assembled(EVERYTHING)
        renamed = find_run_export(component).renamed(component, new)
        old_exports = exports(component)
        assert exports(renamed) == [name.replace("pie:outer/", f"pie:{new}/") for name in old_exports]
        assert b"pie:inner/run" in renamed
        assert len(renamed) - len(component) - len(new) + len("outer") in (0, 1, 2)  # sizes that take more bytes

    def test_the_result_still_runs(self):
        component = assembled(ECHO_COMPONENT)
        renamed = find_run_export(component).renamed(component, "a-much-longer-name-than-before")
        config = wasmtime.Config()
        config.wasm_component_model = True
        engine = wasmtime.Engine(config)
        store = wasmtime.Store(engine)
        compiled = Component(engine, renamed)
        instance = wasmtime.component.Linker(engine).instantiate(store, compiled)
        interface = compiled.get_export_index("pie:a-much-longer-name-than-before/run@0.3.0")
        run = instance.get_func(store, compiled.get_export_index("run", interface))
        assert "hello" in str(run(store, "hello"))

    def test_a_size_that_takes_more_bytes_than_it_needs(self):
        component = with_exports("pie:a/run")
        [place] = [match.start() for match in re.finditer(b"\x0b.\x01", component)]
        size = component[place + 1]
        padded = component[: place + 1] + bytes((size | 0x80, 0x80, 0x00)) + component[place + 2 :]
        assert exports(padded) == ["pie:a/run"]
        assert find_run_export(padded).renamed(padded, "a") == component


class TestWhatIsNoComponent:
    @pytest.mark.parametrize("program", [b"", b"\0asm", b"\0asm\1\0\0\0", b"def main(): ...", b"\0asm\x0d\0\0\0"])
    def test_by_its_preamble(self, program):
        assert not is_component(program)
        with pytest.raises(MalformedComponentError):
            find_run_export(program)

    def test_a_component_without_anything(self):
        assert is_component(b"\0asm\x0d\0\1\0")
        assert find_run_export(b"\0asm\x0d\0\1\0") is None

    def test_every_cut_is_found_or_harmless(self):
        component = with_exports("first", "pie:a/run")
        whole = find_run_export(component)
        assert whole is not None
        for end in range(8, len(component)):
            try:
                found = find_run_export(component[:end])
            except MalformedComponentError:
                continue
            assert found in (None, whole)

    @pytest.mark.parametrize(
        "section",
        [
            b"\x0b\x80\x80\x80\x80\x80\x00",  # a size that is too long
            b"\x0b\x05\x01\x05\x01a\x05",  # a name of an unknown kind
            b"\x0b\x06\x01\x00\x01\xff\x05\x00",  # a name that is no UTF-8
            b"\x0b\x08\x01\x00\x01a\x05\x00\x01\x09",  # a type of an unknown kind
            b"\x0b\x02\x00\x00",  # exports that are shorter than their section
        ],
    )
    def test_a_section_that_makes_no_sense(self, section):
        with pytest.raises(MalformedComponentError):
            find_run_export(b"\0asm\x0d\0\1\0" + section)

    @given(st.data())
    def test_whatever_byte_is_wrong_nothing_else_is_raised(self, data):
        component = bytearray(assembled(EVERYTHING))
        for _ in range(data.draw(st.integers(1, 4))):
            component[data.draw(st.integers(8, len(component) - 1))] = data.draw(st.integers(0, 255))
        try:
            found = find_run_export(bytes(component))
            if found is not None:
                assert find_run_export(found.renamed(bytes(component), "other")).name == "other"
        except MalformedComponentError:
            pass
