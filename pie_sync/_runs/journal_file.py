"""The file below a journal: opened and locked for one batch, replaced as a whole. Knows nothing of its lines."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["is_regular", "open_locked", "replace"]


def is_regular(file: IO[bytes]) -> bool:
    """Return whether it is a file on a disk, which can be read and cut; and no pipe and no device."""
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def open_locked(path: str, on_wait: Callable[[], None] | None = None) -> IO[bytes]:
    """Open a file to read it and to append to it, or a pipe or a device to write to it. Make a file if need be.

    A file is locked until it is closed, but on Windows. A named pipe is waited for until somebody reads from it.

    Args:
        path: the file.
        on_wait: called before that wait, if there is nobody.

    Raises:
        BlockingIOError: the file is locked.
        OSError: it can't be opened.
    """
    while True:
        file = _opened(path, on_wait)
        try:
            if not is_regular(file):
                return file
            _lock(file)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    return file
        except BaseException:
            file.close()
            raise
        # Its owner has replaced it after it was opened, and has closed it before it was locked.
        file.close()


def replace(file: IO[bytes], path: str, content: bytes) -> IO[bytes]:
    """Put a file with ``content`` in the place of a locked one, which is closed. Return it, locked as well.

    A crash at any moment, of the machine as well, leaves the one or the other. So does an error.

    Raises:
        OSError: that is not possible.
    """
    import tempfile  # noqa: PLC0415 - takes a while to load, and few batches begin anew

    path = os.path.realpath(path)
    descriptor, aside = tempfile.mkstemp(prefix=".pie-sync-", dir=os.path.dirname(path))
    new: IO[bytes] = os.fdopen(descriptor, "w+b")
    try:
        os.chmod(aside, stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        _lock(new)
        new.write(content)
        new.flush()
        os.fsync(new.fileno())
        if sys.platform == "win32":  # where an open file can't be replaced, nor moved
            new.close()
            file.close()
        os.replace(aside, path)
        if sys.platform == "win32":
            new = open(path, "a+b")  # noqa: SIM115 - for the caller
    except BaseException:
        with contextlib.suppress(OSError):
            new.close()
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    file.close()
    return new


def _opened(path: str, on_wait: Callable[[], None] | None) -> IO[bytes]:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG  # it will be
    if sys.platform != "win32" and stat.S_ISFIFO(mode):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if on_wait is not None:
                on_wait()
        else:
            os.set_blocking(descriptor, True)
            return os.fdopen(descriptor, "wb")
    return open(path, "a+b" if stat.S_ISREG(mode) else "wb")


def _lock(file: IO[bytes]) -> None:
    if sys.platform != "win32":
        import fcntl  # noqa: PLC0415 - not on Windows

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
