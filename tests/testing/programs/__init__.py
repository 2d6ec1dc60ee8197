"""Small WASI command modules in WebAssembly's text form."""

from __future__ import annotations

import wasmtime

_IMPORTS = """
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get"
    (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
"""

# Bytes 0 to 15 of the memory are for the calls' own arguments and results.
_HELPERS = """
  (memory (export "memory") 1)
  (func $write (param $fd i32) (param $address i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $address))
    (i32.store (i32.const 4) (local.get $size))
    (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))
      (then unreachable)))
  (func $print (param $address i32) (param $size i32)
    (call $write (i32.const 1) (local.get $address) (local.get $size)))
  (func $read (param $address i32) (param $size i32) (result i32)
    (i32.store (i32.const 0) (local.get $address))
    (i32.store (i32.const 4) (local.get $size))
    (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
      (then unreachable))
    (i32.load (i32.const 8)))
  (func $length (param $address i32) (result i32) (local $size i32)
    (block $end (loop $next
      (br_if $end (i32.eqz (i32.load8_u (i32.add (local.get $address) (local.get $size)))))
      (local.set $size (i32.add (local.get $size) (i32.const 1)))
      (br $next)))
    (local.get $size))
"""


def command(start: str, *definitions: str) -> bytes:
    """The module whose ``_start`` has the body ``start``."""
    return module(_IMPORTS + _HELPERS + "\n".join(definitions) + f'(func (export "_start") {start})')


def module(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(f"(module {text})"))


#: Prints each argument, its own name first, on a line.
HELLO = command(
    """
    (local $index i32)
    (drop (call $args_sizes_get (i32.const 16) (i32.const 20)))
    (drop (call $args_get (i32.const 1024) (i32.const 4096)))
    (loop $next
      (call $print
        (i32.load (i32.add (i32.const 1024) (i32.mul (local.get $index) (i32.const 4))))
        (call $length (i32.load (i32.add (i32.const 1024) (i32.mul (local.get $index) (i32.const 4))))))
      (call $print (i32.const 24) (i32.const 1))
      (local.set $index (i32.add (local.get $index) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $index) (i32.load (i32.const 16)))))
    """,
    r'(data (i32.const 24) "\n")',
)

#: Prints what it reads, at most 8 bytes at a time.
ECHO = command("(loop $next (call $print (i32.const 16) (call $read (i32.const 16) (i32.const 8))) (br $next))")

#: Prints to both outputs and exits with code 3.
FAILURE = command(
    """
    (call $print (i32.const 16) (i32.const 4))
    (call $write (i32.const 2) (i32.const 20) (i32.const 4))
    (call $exit (i32.const 3))
    """,
    '(data (i32.const 16) "out\\nerr\\n")',
)

SUCCESS = command("(call $exit (i32.const 0))")
TRAP = command("unreachable")
DIVISION = command("(drop (i32.div_u (i32.const 1) (i32.const 0)))")
RECURSION = command("(call $deeper)", "(func $deeper (call $deeper))")
ENDLESS_LOOP = command(
    "(call $print (i32.const 16) (i32.const 2)) (loop $again (br $again))", '(data (i32.const 16) "up")'
)
NO_START = module('(memory (export "memory") 1)')
UNKNOWN_IMPORT = module('(import "pie" "infer" (func)) (func (export "_start"))')

#: Takes memory page by page until it is refused, then fails.
MEMORY_HOG = command("(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable")
#: Asks for more memory at its start than it can get.
HUGE_MEMORY = module('(memory (export "memory") 30000) (func (export "_start"))')
HUGE_TABLE = module('(table 100000000 funcref) (func (export "_start"))')

#: Writes the two bytes of "é" separately, and half of another one at its end.
SPLIT_CHARACTER = command(
    """
    (call $print (i32.const 16) (i32.const 1))
    (call $print (i32.const 17) (i32.const 1))
    (call $print (i32.const 16) (i32.const 1))
    """,
    r'(data (i32.const 16) "\c3\a9")',
)

#: Exits with 0 if it has no environment and no opened directory.
SANDBOX = command(
    """
    (drop (call $environ_sizes_get (i32.const 16) (i32.const 20)))
    (if (i32.load (i32.const 16)) (then (call $exit (i32.const 1))))
    (if (i32.ne (call $fd_prestat_get (i32.const 3) (i32.const 16)) (i32.const 8))
      (then (call $exit (i32.const 2))))
    """
)

#: Exits with the error number of a write from an address outside of its memory.
BAD_ADDRESS = command(
    """
    (i32.store (i32.const 0) (i32.const -16))
    (i32.store (i32.const 4) (i32.const 8))
    (call $exit (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    """
)

#: Exits with the error number of a write to a file descriptor that it does not have.
BAD_DESCRIPTOR = command("(call $exit (call $fd_write (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 8)))")

#: Exports no memory, and fails unless the error number of a write is that of a bad address, 21.
NO_MEMORY = module(
    """
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (func (export "_start")
      (if (i32.ne (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8)) (i32.const 21))
        (then unreachable)))
    """
)

#: Exits with the error number of a read from its standard output.
READ_OUTPUT = command("(call $exit (call $fd_read (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8)))")

#: Reads nothing, without waiting for input, and exits with the error number.
READ_NOTHING = command(
    """
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 8) (i32.const 5))
    (call $exit (i32.add
      (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
      (i32.load (i32.const 8))))
    """
)

#: Exits with the error number of a read of its standard input.
READ_INPUT = command(
    """
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 8))
    (call $exit (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    """
)


def read_clock(clock: int) -> bytes:
    """Exits with the error number of a read of this clock."""
    return command(f"(call $exit (call $clock (i32.const {clock}) (i64.const 0) (i32.const 16)))")


def poll_many(count: int) -> bytes:
    """Exits with the error number of a poll for so many events, which have an invalid type."""
    return command(
        f"""
        (drop (memory.grow (i32.const 2)))
        (memory.fill (i32.const 64) (i32.const 9) (i32.mul (i32.const {count}) (i32.const 48)))
        (call $exit (call $poll (i32.const 64) (i32.const 65536) (i32.const {count}) (i32.const 16)))
        """
    )


def poll_event(kind: int, clock_or_descriptor: int) -> bytes:
    """Polls for one event, and exits with the error number in that event."""
    return command(
        f"""
        (i32.store8 (i32.const 72) (i32.const {kind}))
        (i32.store (i32.const 80) (i32.const {clock_or_descriptor}))
        (if (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 512)) (then unreachable))
        (if (i32.ne (i32.load (i32.const 512)) (i32.const 1)) (then unreachable))
        (call $exit (i32.load16_u (i32.const 264)))
        """
    )


def sleep(nanoseconds: int) -> bytes:
    """Prints "asleep", waits, prints "awake"."""
    return command(
        f"""
        (call $print (i32.const 16) (i32.const 6))
        (i32.store (i32.const 80) (i32.const 1)) (; the monotonic clock ;)
        (i64.store (i32.const 88) (i64.const {nanoseconds}))
        (if (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 512)) (then unreachable))
        (if (i32.ne (i32.load (i32.const 512)) (i32.const 1)) (then unreachable))
        (call $print (i32.const 32) (i32.const 5))
        """,
        '(data (i32.const 16) "asleep")',
        '(data (i32.const 32) "awake")',
    )


#: Waits until 1 ms after now on the monotonic clock, with an absolute time, and exits with 0 if it is later then.
SLEEP_UNTIL = command(
    """
    (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 16)))
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.add (i64.load (i32.const 16)) (i64.const 1000000)))
    (i32.store16 (i32.const 104) (i32.const 1))
    (if (call $poll (i32.const 64) (i32.const 256) (i32.const 1) (i32.const 512)) (then unreachable))
    (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 24)))
    (if (i64.lt_u (i64.load (i32.const 24)) (i64.load (i32.const 88))) (then unreachable))
    """
)

#: Waits for its input or an hour, whichever is first, and prints the first 8 bytes of the input.
POLL_INPUT = command(
    """
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 3600000000000))
    (i64.store (i32.const 112) (i64.const 77)) (; the second one's user data ;)
    (i32.store8 (i32.const 120) (i32.const 1)) (; reading, from descriptor 0 ;)
    (if (call $poll (i32.const 64) (i32.const 256) (i32.const 2) (i32.const 512)) (then unreachable))
    (if (i32.ne (i32.load (i32.const 512)) (i32.const 1)) (then unreachable))
    (if (i64.ne (i64.load (i32.const 256)) (i64.const 77)) (then unreachable))
    (call $print (i32.const 16) (call $read (i32.const 16) (i32.const 8)))
    """
)

#: Does nothing, and takes three chunks to upload: a custom section makes it large.
LARGE = module('(func (export "_start")) (@custom "padding" "' + "x" * (2 * 256 * 1024 + 1000) + '")')
