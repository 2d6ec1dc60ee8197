"""What the tests of the queues and their files share."""

from __future__ import annotations

import gc
import os
from contextlib import suppress

from pie_sync import Event
from pie_sync._session.event_queue import EventQueue


def messages(start: int, stop: int):
    return [(Event.Message, f"message {number}") for number in range(start, stop)]


def drain(events: EventQueue):
    """Everything up to the end, errors included."""
    received = []
    while True:
        try:
            received.append(events.get(timeout=10))
        except EOFError:
            return received
        except ValueError as error:
            received.append(error)


def temporary_files() -> int:
    """How many files without a name this process has open."""
    gc.collect()  # those of earlier tests
    names = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed by now
            names.append(os.readlink(f"/proc/self/fd/{number}"))
    return sum(name.endswith("(deleted)") for name in names)
