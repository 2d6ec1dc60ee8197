"""Replaces the WASI calls that read, write, or wait.

wasmtime implements WASI preview 1, and most of its calls are used as they are. These calls are replaced because
another thread can't interrupt wasmtime's reads and sleeps, and because wasmtime calls custom outputs from its own
threads, which don't say when the last output of a program has arrived.
"""

from __future__ import annotations

import codecs
import logging
import struct
import time
from typing import Callable

from wasmtime import Caller, FuncType, Linker, Memory, ValType

from ...events import Event
from .instance import Instance
from .mailbox import Terminated

__all__ = ["HostCalls"]

logger = logging.getLogger("pie_sync.testing")

MODULE = "wasi_snapshot_preview1"

# Error numbers, clocks, and the layout of structures, from the WASI preview 1 specification.
SUCCESS, EBADF, EFAULT, EINTR, EINVAL = 0, 8, 21, 27, 28
REALTIME, MONOTONIC = 0, 1
CLOCK_EVENT, READ_EVENT, WRITE_EVENT = 0, 1, 2
ABSOLUTE_TIME = 1
STDIN, STDOUT, STDERR = 0, 1, 2

_IOVEC = struct.Struct("<II")
_SUBSCRIPTION_HEAD = struct.Struct("<QB7x")
_SUBSCRIPTION_CLOCK = struct.Struct("<I4xQQH6x")
_SUBSCRIPTION_FD = struct.Struct("<I")
_SUBSCRIPTION_SIZE = 48
_EVENT = struct.Struct("<QHB5xQH6x")
MAX_SUBSCRIPTIONS = 1024

WaitResult = tuple[int, int, int, int]  # user data, error number, type of event, bytes available


class _GuestMemory:
    """The program's linear memory. Checks each address, and raises MemoryError for one that is out of bounds."""

    def __init__(self, caller: Caller) -> None:
        memory = caller.get("memory")
        if not isinstance(memory, Memory):
            raise MemoryError
        self._caller = caller
        self._memory = memory
        self._size = memory.data_len(caller)

    def read(self, address: int, size: int) -> bytes:
        self._check(address, size)
        return bytes(self._memory.read(self._caller, address, address + size))

    def write(self, address: int, data: bytes) -> None:
        self._check(address, len(data))
        if data:
            self._memory.write(self._caller, data, address)

    def iovecs(self, address: int, count: int) -> list[tuple[int, int]]:
        table = self.read(address, _IOVEC.size * count)
        return [(pointer, size) for pointer, size in _IOVEC.iter_unpack(table)]

    def _check(self, address: int, size: int) -> None:
        if address + size > self._size:
            raise MemoryError


class HostCalls:
    """Standard input, output and error of one instance. The calls run in the instance's thread and never raise."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._unread = b""
        decoder = codecs.getincrementaldecoder("utf-8")
        self._outputs: dict[int, tuple[Event, codecs.IncrementalDecoder]] = {
            STDOUT: (Event.Stdout, decoder("replace")),
            STDERR: (Event.Stderr, decoder("replace")),
        }

    def define(self, linker: Linker) -> None:
        """Replace these calls in the linker."""
        i32, i64 = ValType.i32(), ValType.i64()
        calls: list[tuple[Callable[..., int], list[ValType]]] = [
            (self.fd_write, [i32, i32, i32, i32]),
            (self.fd_read, [i32, i32, i32, i32]),
            (self.poll_oneoff, [i32, i32, i32, i32]),
            (self.clock_time_get, [i32, i64, i32]),
        ]
        for call, parameters in calls:
            signature = FuncType(parameters, [i32])
            linker.define_func(MODULE, call.__name__, signature, _guarded(call), access_caller=True)

    def finish(self) -> None:
        """Send a replacement character for each output that ends with an incomplete UTF-8 sequence."""
        for event, decoder in self._outputs.values():
            rest = decoder.decode(b"", final=True)
            if rest:
                self._instance.emit(event, rest)

    def fd_write(self, memory: _GuestMemory, fd: int, iovecs: int, count: int, written: int) -> int:
        """Send what the program writes to its standard output or error."""
        if fd not in self._outputs:
            return EBADF
        data = b"".join(memory.read(address, size) for address, size in memory.iovecs(iovecs, count))
        memory.write(written, struct.pack("<I", len(data)))
        event, decoder = self._outputs[fd]
        text = decoder.decode(data)
        if text:
            self._instance.emit(event, text)
        return SUCCESS

    def fd_read(self, memory: _GuestMemory, fd: int, iovecs: int, count: int, read: int) -> int:
        """Read from the standard input; block until there is a message if the last one was read completely."""
        if fd != STDIN:
            return EBADF
        buffers = memory.iovecs(iovecs, count)
        if not self._unread and any(size for _, size in buffers):
            self._unread = self._instance.mailbox.get_message().encode("utf-8", "replace") + b"\n"
        total = 0
        for address, size in buffers:
            part, self._unread = self._unread[:size], self._unread[size:]
            memory.write(address, part)
            total += len(part)
        memory.write(read, struct.pack("<I", total))
        return SUCCESS

    def clock_time_get(self, memory: _GuestMemory, clock: int, _precision: int, result: int) -> int:
        """Read a clock, one of those that :meth:`poll_oneoff` waits for."""
        now = _now(clock)
        if now is None:
            return EINVAL
        memory.write(result, struct.pack("<Q", now))
        return SUCCESS

    def poll_oneoff(self, memory: _GuestMemory, wanted: int, results: int, count: int, stored: int) -> int:
        """Block until a clock has reached a time, or the standard input can be read."""
        if not 0 < count <= MAX_SUBSCRIPTIONS:
            return EINVAL
        entries = memory.read(wanted, count * _SUBSCRIPTION_SIZE)
        sleepers = [
            _Subscription(entries[at : at + _SUBSCRIPTION_SIZE])
            for at in range(0, len(entries), _SUBSCRIPTION_SIZE)
        ]
        for_message = any(sleeper.kind == READ_EVENT for sleeper in sleepers)
        while True:
            unread = len(self._unread) or int(self._instance.mailbox.has_message)
            found = [result for result in (sleeper.result(unread) for sleeper in sleepers) if result]
            if found:
                break
            timeouts = [sleeper.seconds_left() for sleeper in sleepers if sleeper.kind == CLOCK_EVENT]
            self._instance.mailbox.wait(min(timeouts, default=None), for_message=for_message)
        for number, (user_data, error, kind, available) in enumerate(found):
            memory.write(results + number * _EVENT.size, _EVENT.pack(user_data, error, kind, available, 0))
        memory.write(stored, struct.pack("<I", len(found)))
        return SUCCESS


class _Subscription:
    """One of the events that a ``poll_oneoff`` waits for: a clock, or a readable or writable file descriptor."""

    def __init__(self, entry: bytes) -> None:
        self.user_data, self.kind = _SUBSCRIPTION_HEAD.unpack_from(entry)
        self._fd: int = _SUBSCRIPTION_FD.unpack_from(entry, _SUBSCRIPTION_HEAD.size)[0]
        self._deadline = 0
        self._clock = MONOTONIC
        self._error = SUCCESS
        if self.kind == CLOCK_EVENT:
            clock, timeout, _precision, flags = _SUBSCRIPTION_CLOCK.unpack_from(entry, _SUBSCRIPTION_HEAD.size)
            if clock not in (REALTIME, MONOTONIC):
                self._error = EINVAL
            elif flags & ABSOLUTE_TIME:
                self._clock, self._deadline = clock, timeout
            else:
                self._deadline = time.monotonic_ns() + timeout
        elif self.kind not in (READ_EVENT, WRITE_EVENT):
            self._error = EINVAL
        elif self._fd not in ((STDIN,) if self.kind == READ_EVENT else (STDOUT, STDERR)):
            self._error = EBADF

    def result(self, unread: int) -> WaitResult | None:
        """Return the event, None if it has not happened; ``unread`` is 0 if the standard input has no data."""
        if self._error:
            return self.user_data, self._error, self.kind, 0
        if self.kind == READ_EVENT and not unread:
            return None
        if self.kind == CLOCK_EVENT and self.seconds_left() > 0:
            return None
        return self.user_data, SUCCESS, self.kind, unread if self.kind == READ_EVENT else 0

    def seconds_left(self) -> float:
        """Return the seconds until the clock reaches the deadline."""
        return (self._deadline - (_now(self._clock) or 0)) / 1e9


def _now(clock: int) -> int | None:
    if clock == REALTIME:
        return time.time_ns()
    return time.monotonic_ns() if clock == MONOTONIC else None


def _guarded(call: Callable[..., int]) -> Callable[..., int]:
    """Make arguments unsigned, and turn exceptions into error numbers.

    wasmtime stores the exception of a host call in a variable that all threads share, so no exception may reach
    wasmtime.
    """

    def guarded(caller: Caller, *arguments: int) -> int:
        try:
            # Wasm integers arrive signed. No call uses its 64-bit arguments.
            return call(_GuestMemory(caller), *(argument & 0xFFFFFFFF for argument in arguments))
        except Terminated:
            # terminate() has incremented the epoch, which stops the program when this call returns.
            return EINTR
        except MemoryError:
            return EFAULT
        except Exception:
            logger.exception("host call %s", call.__name__)
            return EINVAL

    return guarded
