"""Helpers for tests with threads: run several, and wait until one waits."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, Callable


def run_all(*calls: Callable[[], Any], limit: float = 60) -> None:
    """Make each call in a thread of its own, and wait for all. Raises the first exception of any call."""
    failures: list[BaseException] = []

    def run(call: Callable[[], Any]) -> None:
        try:
            call()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive(), "a call did not end"
    if failures:
        raise failures[0]


def wait_until_it_waits(thread: threading.Thread, function_name: str) -> None:
    """Wait until a thread stays at one place inside a function. No event announces that, so this polls."""
    deadline = time.monotonic() + 10
    seen = None
    while time.monotonic() < deadline:
        frame = sys._current_frames().get(thread.ident or 0)
        place, found = [], False
        while frame is not None:
            place.append((id(frame), frame.f_lasti))
            found = found or frame.f_code.co_name == function_name
            frame = frame.f_back
        if found and place == seen:
            return
        seen = place
        threading.Event().wait(0.02)
    raise AssertionError(f"never came to wait in {function_name}")


def wait_until(condition: Callable[[], bool], limit: float = 10) -> None:
    """Wait for a condition that no event announces."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
