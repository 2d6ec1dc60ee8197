"""Exceptions of signal handlers, told from those of the code that they interrupt."""

from __future__ import annotations

import functools
import os
import signal
import socket
import threading
from contextlib import contextmanager

import pytest

from pie_sync._support.signal_handlers import is_from_signal_handler, start_thread


@contextmanager
def handler(handle):
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def fail(*_: object) -> None:
    raise TimeoutError("of the handler")


def fail_by_another(number, frame):
    fail()


class Watchdog:
    def bark(self, number, frame):
        raise TimeoutError("of the handler")

    def __call__(self, number, frame):
        os.write(-1, b"")  # raises an OSError


def caught(call) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


HANDLERS = [
    fail,
    fail_by_another,
    lambda number, _: fail(),
    Watchdog().bark,
    Watchdog(),
    functools.partial(Watchdog.bark, Watchdog()),
]


@pytest.mark.parametrize("handle", HANDLERS, ids=range(len(HANDLERS)))
@pytest.mark.parametrize("place", ["between two steps", "in a system call"])
def test_what_a_handler_raises(handle, place):
    near, far = socket.socketpair()
    with near, far, handler(handle):
        if place == "between two steps":
            error = caught(lambda: signal.raise_signal(signal.SIGUSR1))
        else:
            main = threading.main_thread().ident
            timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1))
            timer.start()
            error = caught(lambda: near.recv(1))
            timer.join()
    assert isinstance(error, OSError)
    assert is_from_signal_handler(error)


def test_what_the_code_itself_raises():
    def fail_here():
        raise OSError("of the code")

    with socket.socket() as sock:
        for call in (lambda: sock.recv(1), fail_here, lambda: fail(1, 2), lambda: socket.socket(9999)):
            assert not is_from_signal_handler(caught(call))
    assert not is_from_signal_handler(OSError("never raised"))


def test_a_thread_that_a_handler_keeps_from_starting(monkeypatch):
    error = TimeoutError("of the handler")

    def start() -> None:
        try:
            raise error
        finally:
            threading.Lock().release()  # as threading does with a lock that is in disorder

    thread = threading.Thread()
    monkeypatch.setattr(thread, "start", start)
    with pytest.raises(TimeoutError) as raised:
        start_thread(thread)
    assert raised.value is error


def test_a_thread_that_the_system_refuses_while_something_else_is_handled(monkeypatch):
    def start() -> None:
        raise RuntimeError("can't start new thread")

    thread = threading.Thread()
    monkeypatch.setattr(thread, "start", start)
    try:
        raise TimeoutError("handled long ago")
    except TimeoutError:
        with pytest.raises(RuntimeError, match="new thread"):
            start_thread(thread)
