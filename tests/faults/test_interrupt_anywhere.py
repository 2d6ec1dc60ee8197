"""KeyboardInterrupt at every single step that the library takes in the thread that calls it.

A real signal comes in the middle of a system call nearly always (``test_interrupt.py``), and once in a while
between two instructions. So here it is raised there: at the first place of a call where it can be, at the second,
and so on.
"""

from __future__ import annotations

import dis
import gc
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Callable

import pytest

import pie_sync
from pie_sync import Event, PieClient, PieConnectionError, PieTimeoutError
from tests.faults.test_cut_anywhere import open_files

SOURCE = str(Path(pie_sync.__file__).parent) + os.sep

#: The interpreter looks for signals after these instructions, and nowhere else: ``with lock`` leaves no gap.
LOOKS_AFTER = ("CALL", "RESUME", "JUMP_BACKWARD")


@cache
def instructions(code: CodeType) -> dict[int, str]:
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


class InterruptAt:
    """Raises KeyboardInterrupt in this thread, at the n-th place of the library's source where a signal can."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._last: dict[FrameType, str] = {}
        self._tracer = Tracer(self._step)
        self.place = ""

    def __enter__(self) -> InterruptAt:
        self._tracer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tracer.stop()
        self._last.clear()

    def _step(self, frame: FrameType, offset: int) -> None:
        last, self._last[frame] = self._last.get(frame, "RESUME"), instructions(frame.f_code)[offset]
        if last.startswith(LOOKS_AFTER):
            self._left -= 1
            if self._left == 0:
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
                raise KeyboardInterrupt


def is_of_the_library(code: CodeType) -> bool:
    return code.co_filename.startswith(SOURCE) and "testing" not in code.co_filename


class SetTrace:
    """Calls back before each instruction of the library that this thread takes."""

    def __init__(self, step: Callable[[FrameType, int], None]) -> None:
        self._step = step

    def start(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._enter_function)

    def stop(self) -> None:
        sys.settrace(self._before)

    def _enter_function(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not is_of_the_library(frame.f_code):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._trace

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self._step(frame, frame.f_lasti)
        return self._trace


class Monitoring:
    """The same from Python 3.12 on, where ``settrace`` overlooks instructions."""

    TOOL = 4

    def __init__(self, step: Callable[[FrameType, int], None]) -> None:
        self._step = step
        self._thread = threading.get_ident()

    def start(self) -> None:
        events = sys.monitoring.events.INSTRUCTION
        sys.monitoring.use_tool_id(self.TOOL, type(self).__name__)
        sys.monitoring.register_callback(self.TOOL, events, self._instruction)
        sys.monitoring.set_events(self.TOOL, events)

    def stop(self) -> None:
        sys.monitoring.set_events(self.TOOL, 0)
        sys.monitoring.free_tool_id(self.TOOL)

    def _instruction(self, code: CodeType, offset: int) -> Any:
        if not is_of_the_library(code):
            return sys.monitoring.DISABLE
        if threading.get_ident() == self._thread:
            self._step(sys._getframe(1), offset)
        return None


Tracer = Monitoring if sys.version_info >= (3, 12) else SetTrace


def ping(client: PieClient) -> None:
    client.ping()


def upload(client: PieClient) -> None:
    client.upload_program(b"\0asm\1\0\0\0")


def exchange(client: PieClient) -> None:
    instance = client.launch_instance_from_registry("echo")
    instance.send("hello")
    assert instance.recv(15) == (Event.Message, "hello")
    instance.send("stop")
    list(instance.events(15))


@pytest.mark.parametrize("use", [ping, upload, exchange])
def test_afterwards_the_client_is_usable_or_closed(server, use: Callable[[PieClient], None]):
    # In a thread of its own. CPython loses count of its exceptions when a trace function raises at the end of an
    # "except": one of them then seems to be handled for ever, and is the __context__ of all that come later.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(interrupt_everywhere, server, use).result()


def interrupt_everywhere(server, use: Callable[[PieClient], None]) -> None:
    with PieClient(server.uri, timeout=15) as client:
        client.authenticate("alice")
        use(client)
        closed = number = 0
        while True:
            number += 1
            with InterruptAt(number) as interrupt:
                try:
                    use(client)
                    break  # it has fewer instructions
                except (KeyboardInterrupt, PieConnectionError):
                    pass
            try:
                use(client)
            except PieConnectionError:
                closed += 1
                assert client.closed, interrupt.place
                client.connect()
                client.authenticate("alice")
            except PieTimeoutError:
                pytest.fail(f"neither usable nor closed after KeyboardInterrupt at {interrupt.place}")
        assert number > 50, "hardly anything was interrupted"
        assert closed < number / 4, "few moments are worth a connection"


def test_an_interrupted_connect_leaves_nothing_behind(server):
    with warnings.catch_warnings(record=True) as warned, ThreadPoolExecutor(1) as thread:  # see above
        warnings.simplefilter("always", ResourceWarning)
        thread.submit(interrupt_connecting_everywhere, server).result()
    # A socket that the system has made already, and that no variable knows yet, nobody can close.
    assert len(warned) <= 1, [str(warning.message) for warning in warned]


def interrupt_connecting_everywhere(server) -> None:
    before = open_files()
    number = 0
    interrupted = True
    while interrupted:
        number += 1
        client = PieClient(server.uri, timeout=15)
        with InterruptAt(number) as interrupt:
            try:
                client.connect()
                interrupted = False
            except KeyboardInterrupt:
                pass
        client.connect()
        client.authenticate("alice")
        client.ping()
        client.close()
        for other in threading.enumerate():
            if other.name.startswith("pie-sync reader"):
                other.join(15)
                assert not other.is_alive(), f"the reader thread is left after {interrupt.place}"
    assert number > 100, "hardly anything was interrupted"
    deadline = time.monotonic() + 15
    while open_files() > before and time.monotonic() < deadline:
        # The server's ends of the connections: those that ended before their upgrade the package websockets
        # leaves to the garbage collector. (The client's are closed by then: the warnings tell if one is not.)
        gc.collect()
        time.sleep(0.01)
    assert open_files() <= before
