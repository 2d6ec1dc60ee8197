"""What a signal handler raises, at every single step that the library takes in the thread that calls it.

A real signal comes in the middle of a system call nearly always (``test_interrupt.py``), and once in a while
between two instructions. So here the handler raises there: at the first place of a call where it can, at the
second, and so on. A watchdog raises TimeoutError, others an OSError or a class of their own: whatever it is, it
passes as it is, and is never taken for an error of the connection. By default only KeyboardInterrupt is tried
everywhere, and not for all calls; the rest at a sample of the places. With ``PIE_SYNC_EXHAUSTIVE=1`` it is all of
them everywhere.
"""

from __future__ import annotations

import dis
import errno
import gc
import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Callable

import pytest

import pie_sync
from pie_sync import Event, PieClient, PieConnectionError, PieTimeoutError
from tests.faults.test_cut_anywhere import open_files

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = str(Path(pie_sync.__file__).parent) + os.sep

#: The interpreter looks for signals after these instructions, and nowhere else: ``with lock`` leaves no gap.
LOOKS_AFTER = ("CALL", "RESUME", "JUMP_BACKWARD")


@cache
def instructions(code: CodeType) -> dict[int, str]:
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


@cache
def handler_at(code: CodeType, offset: int) -> int | None:
    """Where an exception of an instruction is handled, from Python 3.11 on: ``try`` and ``with`` have a table."""
    for entry in getattr(dis.Bytecode(code), "exception_entries", ()):
        if entry.start <= offset < entry.end:
            return entry.target
    return None


class WatchdogError(Exception):
    """What a program of its own may raise."""


#: What handlers raise. A fresh one for each place.
RAISED: list[Callable[[], BaseException]] = [
    KeyboardInterrupt,
    partial(TimeoutError, "of the watchdog"),
    partial(OSError, errno.EPIPE, "of the handler"),
    WatchdogError,
]

EXHAUSTIVE = bool(os.environ.get("PIE_SYNC_EXHAUSTIVE"))

#: Of how many places a sample has one. A prime, so that loops are not hit in step.
STEP = 1 if EXHAUSTIVE else 29


def each_place(raised: Callable[[], BaseException], *, sample: bool) -> Iterator[int]:
    """The numbers of the places to interrupt at: a sample, or all."""
    return count(1 + RAISED.index(raised), STEP if sample else 1)


class InterruptAt:
    """Runs a signal handler in this thread, at the n-th place of the library's source where one can run.

    Attributes:
        error: what the handler raises.
        place: where it did, or "".
    """

    def __init__(self, number: int, error: BaseException) -> None:
        self._left = number
        self.error = error
        self._last: dict[FrameType, int] = {}
        self._tracer = Tracer(self._step)
        self.place = ""

    def __enter__(self) -> InterruptAt:
        self._tracer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tracer.stop()
        self._last.clear()

    def _step(self, frame: FrameType, offset: int) -> None:
        code = frame.f_code
        last, self._last[frame] = self._last.get(frame), offset
        if last is None:
            looks = True
        else:
            # A signal's exception is one of the instruction before, so what handles that would handle it. Raised
            # here it belongs to this instruction: not where the two differ, as behind "return f()" in a "with".
            same_handler = handler_at(code, last) == handler_at(code, offset)
            looks = instructions(code)[last].startswith(LOOKS_AFTER) and same_handler
        if looks and not is_in_finalizer(frame):
            self._left -= 1
            if self._left == 0:
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
                self._handle(signal.SIGALRM, frame)

    def _handle(self, number: int, frame: FrameType) -> None:
        raise self.error


def is_in_finalizer(frame: FrameType | None) -> bool:
    """Whether Python prints what is raised there, and goes on: it does so in ``__del__``."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


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


def receive(client: PieClient) -> None:
    """Wait in each of the ways there are, within a time limit."""
    instance = client.launch_instance_from_registry("echo")
    with pytest.raises(PieTimeoutError):
        instance.recv(0.001)
    with pytest.raises(PieTimeoutError):
        instance.wait(0.001)
    instance.terminate()
    assert instance.wait(15).event is Event.Aborted


def run(client: PieClient) -> None:
    assert client.run("echo", input=["hello", "stop"]).event is Event.Completed


def map_(client: PieClient) -> None:
    results = client.map("talk", [["1"], ["2"]], return_exceptions=True, retries=1)
    assert [result.event for result in results] == [Event.Completed] * 2


USES = [ping, upload, exchange, receive, run, map_]

#: Of these, the ones to try KeyboardInterrupt everywhere in.
SHORT = [ping, upload, exchange]


@pytest.mark.parametrize("raised", RAISED, ids=["KeyboardInterrupt", "TimeoutError", "OSError", "of its own"])
@pytest.mark.parametrize("use", USES)
@pytest.mark.timeout(1800 if EXHAUSTIVE else 120)
def test_afterwards_the_client_is_usable_or_closed(server, use, raised):
    # In a thread of its own. CPython loses count of its exceptions when a trace function raises at the end of an
    # "except": one of them then seems to be handled for ever, and is the __context__ of all that come later.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(interrupt_everywhere, server, use, raised).result()


def interrupt_everywhere(server, use: Callable[[PieClient], None], raised: Callable[[], BaseException]) -> None:
    with PieClient(server.uri, timeout=15) as client:
        client.authenticate("alice")
        use(client)
        closed = tried = 0
        sample = raised is not KeyboardInterrupt or use not in SHORT
        for number in each_place(raised, sample=sample):
            with InterruptAt(number, raised()) as interrupt:
                try:
                    use(client)
                    assert not interrupt.place, f"swallowed at {interrupt.place}"
                    break  # it has fewer instructions
                except BaseException as error:
                    assert error is interrupt.error, f"{error!r} after {interrupt.place}"
            tried += 1
            try:
                use(client)
            except PieConnectionError:
                closed += 1
                assert client.closed, interrupt.place
                client.connect()
                client.authenticate("alice")
            except PieTimeoutError:
                pytest.fail(f"neither usable nor closed after {interrupt.place}")
        assert tried > 50 / (STEP if sample else 1), "hardly anything was interrupted"
        assert closed < tried / 4 + sample, "few moments are worth a connection"


@pytest.mark.parametrize("raised", RAISED, ids=["KeyboardInterrupt", "TimeoutError", "OSError", "of its own"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_interrupted_connect_leaves_nothing_behind(server, raised, host):
    with warnings.catch_warnings(record=True) as warned, ThreadPoolExecutor(1) as thread:  # see above
        warnings.simplefilter("always", ResourceWarning)
        uri = server.uri.replace("127.0.0.1", host)  # the name is looked up in a thread
        leaking = thread.submit(interrupt_connecting_everywhere, uri, raised, warned).result()
    # A socket that the system has made already, and that no variable knows yet, nobody can close. That is one
    # place, which may be met twice: how many steps are before it depends on the thread that looks a name up.
    assert len(leaking) <= 1, [str(warning.message) for warning in warned]


def interrupt_connecting_everywhere(uri: str, raised: Callable[[], BaseException], warned: list[Any]) -> set[str]:
    """Return the places of interruptions that left something for the garbage collector to warn of."""
    before = open_files()
    leaking: set[str] = set()
    known: list[Any] = []
    tried = 0
    sample = raised is not KeyboardInterrupt
    for number in each_place(raised, sample=sample):
        client = PieClient(uri, timeout=15)
        with InterruptAt(number, raised()) as interrupt:
            try:
                client.connect()
            except BaseException as error:
                assert error is interrupt.error, f"{error!r} after {interrupt.place}"
        tried += 1
        if warned and len(warned) > len(known):
            leaking.add(interrupt.place)
            known[:] = warned
        client.connect()
        client.authenticate("alice")
        client.ping()
        client.close()
        for other in threading.enumerate():
            if other.name.startswith("pie-sync reader"):
                other.join(15)
                assert not other.is_alive(), f"the reader thread is left after {interrupt.place}"
        if not interrupt.place:
            break
    assert tried > 100 / (STEP if sample else 1), "hardly anything was interrupted"
    deadline = time.monotonic() + 60
    while open_files() > before and time.monotonic() < deadline:
        # The server's ends of the connections: those that ended before their upgrade the package websockets
        # leaves to the garbage collector. (The client's are closed by then: the warnings tell if one is not.)
        gc.collect()
        time.sleep(0.01)
    assert open_files() <= before
    assert len(warned) == len(known), "found only later, and so in an unknown place"
    return leaking
