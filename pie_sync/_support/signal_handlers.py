"""Tells what a signal handler raised from what the interrupted code raised itself.

A handler may raise anything, between any two steps of Python and in the middle of every system call that waits: a
watchdog a ``TimeoutError``, a handler that writes to a closed pipe a ``BrokenPipeError``. Code that catches an
``OSError`` of its own system call catches those as well.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

__all__ = ["is_from_signal_handler", "start_thread"]


def is_from_signal_handler(error: BaseException) -> bool:
    """Whether a signal handler raised ``error``, which the caller has just caught.

    Python calls a handler with the frame that the signal interrupted. That is the frame of the handler's caller,
    and no other function is given the frame of its own caller. So the traceback shows it. (It does not for a
    handler that is written in C, or that has deleted its arguments.)
    """
    entry = error.__traceback__
    above: set[FrameType] = set()
    while entry is not None:
        frame = entry.tb_frame
        if above:  # else it is the frame of whoever caught the error
            for value in list(frame.f_locals.values()):
                for item in value if type(value) is tuple else (value,):
                    if isinstance(item, FrameType) and item in above:
                        return True
        above.add(frame)
        entry = entry.tb_next
    return False


def start_thread(thread: threading.Thread) -> None:
    """Start a thread. Raises what a signal handler raises meanwhile as it is.

    ``threading`` holds a lock of its own while it starts a thread. When a handler raises in that moment, releasing
    the lock fails with a RuntimeError, which hides what the handler raised.
    """
    handled = sys.exc_info()[1]
    try:
        thread.start()
    except RuntimeError as error:
        hidden = error.__context__
        if hidden is None or hidden is handled:  # such as "can't start new thread"
            raise
        raise hidden from None
