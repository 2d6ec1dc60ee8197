"""What a component can import from LocalServer, and what it is told where it would need more."""

from __future__ import annotations

import pytest

from pie_sync.testing import LocalServer
from tests.testing.programs.components import KIT, calling, component, program_0_4
from tests.testing.programs.conftest import Run
from tests.testing.raw import COMPLETED, EXCEPTION
from tests.testing.raw_process import ProcessClient, manifest_of


@pytest.mark.parametrize(
    ("step", "function"),
    [
        ("E", "inferlet:core/message receive"),
        ("b", "inferlet:core/message receive-blob"),
        ("B:3", "inferlet:core/common [constructor]blob"),
    ],
)
def test_what_would_have_to_wait_takes_a_real_server(run: Run, step: str, function: str) -> None:
    text = f"Runtime error: Call error: LocalServer does not have {function}: it takes a real server"
    assert run(KIT, "o:first", step) == ("first", "", (EXCEPTION, text))


@pytest.mark.parametrize("name", ["echo", "files", "filegen"])
def test_so_it_does_on_0_4(name: str) -> None:
    with LocalServer(protocol="process") as server:
        client = ProcessClient(server.uri, gateway=False, username="alice")
        client.add(program_0_4(name), manifest_of(name))
        *_, (event, text) = client.events(client.launch(name))
        assert event == "error"
        assert text.startswith("Call error: LocalServer does not have pie:core/session ")
        client.close()


@pytest.mark.parametrize(
    "interface", ["inferlet:core/forward", "pie:core/inference@0.2.0", "wasi:sockets/network@0.2.3"]
)
def test_a_model_takes_a_real_server(run: Run, interface: str) -> None:
    _, _, (event, text) = run(calling(interface, "infer"))
    assert (event, text.partition("have ")[2]) == (EXCEPTION, f"{interface} infer: it takes a real server")


def test_a_function_that_is_in_no_interface_takes_a_real_server(run: Run) -> None:
    wasm = component("(call $call)", '(import "infer" (func $i))', "(core func $call (canon lower (func $i)))")
    assert "does not have infer:" in run(wasm)[2][1]


def test_a_wrong_type_is_the_programs_own_error(run: Run) -> None:
    _, _, (event, text) = run(calling("inferlet:core/message", "send"))
    assert event == EXCEPTION
    assert text.startswith("Runtime error: Call error: ")
    assert run(KIT, "o:next") == ("next", "", (COMPLETED, ""))


def test_an_import_that_is_no_function_is_an_error_of_the_start(run: Run) -> None:
    _, _, (event, text) = run(component(imports='(import "m" (core module))'))
    assert event == EXCEPTION
    assert text.startswith("Runtime error: ")


def test_each_write_is_decoded_by_itself_and_an_empty_one_is_nothing(run: Run) -> None:
    # "o:" writes 4096 bytes at a time, so that the last "ü" lies across two writes.
    stdout, _, end = run(KIT, "o:", "o:" + "x" * 4095 + "ü", "e:")
    assert stdout == "x" * 4095 + "\ufffd\ufffd"
    assert end == (COMPLETED, "")


#: A core module with a memory, for what calls need one.
MEMORY = """
(core module $memory (memory (export "memory") 1)
  (func (export "allocate") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
(core instance $m (instantiate $memory))
(alias core export $m "memory" (core memory $m-bytes))
(alias core export $m "allocate" (core func $m-allocate))
"""


#: The imports of a program that reads from the standard input.
READER = """
(import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
(alias export $io-error "error" (type $error))
(import "wasi:io/streams@0.2.0" (instance $streams
  (export "input-stream" (type $input (sub resource)))
  (alias outer 1 $error (type $e)) (export "error" (type $own-error (eq $e)))
  (type $variant (variant (case "last-operation-failed" (own $own-error)) (case "closed")))
  (export "stream-error" (type $stream-error (eq $variant)))
  (export "[method]input-stream.blocking-read" (func
    (param "self" (borrow $input)) (param "len" u64) (result (result (list u8) (error $stream-error)))))))
(alias export $streams "input-stream" (type $input-stream))
(import "wasi:cli/stdin@0.2.0" (instance $stdin
  (alias outer 1 $input-stream (type $i)) (export "input-stream" (type $own-input (eq $i)))
  (export "get-stdin" (func (result (own $own-input))))))
"""


def test_the_standard_input_can_not_be_read(run: Run) -> None:
    wasm = component(
        "(call $call)",
        READER,
        MEMORY
        + """
        (core func $get (canon lower (func $stdin "get-stdin")))
        (core func $read (canon lower (func $streams "[method]input-stream.blocking-read")
          (memory $m-bytes) (realloc $m-allocate)))
        (core module $reader
          (import "m" "memory" (memory 1))
          (import "h" "get" (func $get (result i32)))
          (import "h" "read" (func $read (param i32 i64 i32)))
          (func (export "call")
            (call $read (call $get) (i64.const 100) (i32.const 16))))
        (core instance $r (instantiate $reader (with "m" (instance $m))
          (with "h" (instance (export "get" (func $get)) (export "read" (func $read))))))
        (alias core export $r "call" (core func $call))
        """,
    )
    _, _, (event, text) = run(wasm)
    assert event == EXCEPTION
    assert "wasi:io/streams@0.2.0 [method]input-stream.blocking-read: it takes a real server" in text


def test_there_are_no_opened_directories(run: Run) -> None:
    wasm = component(
        "(call $call)",
        """
        (import "wasi:filesystem/types@0.2.0" (instance $types (export "descriptor" (type (sub resource)))))
        (alias export $types "descriptor" (type $descriptor))
        (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
          (alias outer 1 $descriptor (type $d)) (export "descriptor" (type $own-d (eq $d)))
          (export "get-directories" (func (result (list (tuple (own $own-d) string)))))))
        """,
        MEMORY
        + """
        (core func $get (canon lower (func $preopens "get-directories") (memory $m-bytes) (realloc $m-allocate)))
        (core module $asker
          (import "m" "memory" (memory 1))
          (import "h" "get" (func $get (param i32)))
          (func (export "call")
            (call $get (i32.const 16))
            (if (i32.load (i32.const 20)) (then (unreachable)))))
        (core instance $a (instantiate $asker (with "m" (instance $m))
          (with "h" (instance (export "get" (func $get))))))
        (alias core export $a "call" (core func $call))
        """,
    )
    assert run(wasm) == ("", "", (COMPLETED, ""))
