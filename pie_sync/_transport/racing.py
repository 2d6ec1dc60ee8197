"""Happy Eyeballs (RFC 8305): the first of several addresses that accepts a connection, in the caller's thread.

An address that leads nowhere must not cost the whole time limit. So the next one is tried as soon as one fails, or
after a quarter of a second without an answer, and the first connection that is there wins.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import sys
from collections import deque
from time import monotonic
from typing import Any, Callable

from .._support.signal_handlers import is_from_signal_handler

__all__ = ["ATTEMPT_DELAY", "connect_first", "interleave"]

#: After how many seconds without an answer the next address is tried as well (RFC 8305 section 5).
ATTEMPT_DELAY = 0.25

if sys.platform == "win32":
    _Selector = selectors.SelectSelector
else:
    _Selector = selectors.PollSelector  # takes no file descriptor of its own

#: What connect() says on a socket that doesn't block, when it has begun. WSAEWOULDBLOCK is Windows' word for it.
#: EAGAIN is not one of them: on Linux it means that there is no port left.
_HAS_BEGUN = {errno.EINPROGRESS, errno.EINTR, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS)}

#: Of several errors the one that says most of the server is told. These say less than others, in this order:
#: nobody answers; there is no way to there; this machine does not know such addresses at all.
_LESS_INFORMATIVE = {
    errno.ETIMEDOUT: 1,
    errno.EHOSTUNREACH: 1,
    errno.ENETUNREACH: 2,
    errno.ENETDOWN: 2,
    errno.EADDRNOTAVAIL: 2,
    errno.EINVAL: 2,
    errno.EAFNOSUPPORT: 3,
    errno.EPROTONOSUPPORT: 3,
}


def connect_first(
    addresses: list[Any], deadline: float | None, sockets: list[socket.socket], check: Callable[[], None]
) -> socket.socket:
    """Connect to one of several addresses, and return the socket, which does not block.

    Args:
        addresses: in the form of ``socket.getaddrinfo``, the best one first.
        deadline: a value of ``time.monotonic``; None is without limit.
        sockets: takes the sockets that are in use, so that somebody else can end them; at the end the one that
            won, or in case of an error all that have to be closed.
        check: called after each change of ``sockets``, and after each wait. Raises what ends all of this.

    Raises:
        socket.timeout: the deadline came first.
        OSError: no address accepts; of several errors the one that says most.
    """
    waiting = deque(interleave(addresses))
    failures: list[OSError] = []
    pending = 0
    next_attempt = 0.0
    selector = _Selector()

    def fail(address: Any, error: OSError) -> None:
        if len(addresses) > 1:
            error = OSError(error.errno, f"{error.strerror or error} ({address[0]})")
        failures.append(error)

    while True:
        if waiting and (not pending or monotonic() >= next_attempt):
            family, kind, protocol, _, address = waiting.popleft()
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:  # a family that this kernel does not have
                if is_from_signal_handler(error):
                    raise
                fail(address, error)
                continue
            sockets.append(sock)
            sock.setblocking(False)
            check()
            code = sock.connect_ex(address)
            if code == 0:
                return _winner(sock, sockets, check)
            if code not in _HAS_BEGUN:
                fail(address, OSError(code, os.strerror(code)))
                sockets.remove(sock)
                sock.close()
                continue
            selector.register(sock, selectors.EVENT_WRITE, address)
            pending += 1
            next_attempt = monotonic() + ATTEMPT_DELAY
        elif not pending:
            raise _most_informative(failures)
        for key, _ in selector.select(_time_to_wait(deadline, next_attempt if waiting else None, failures)):
            sock = key.fileobj  # type: ignore[assignment]
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return _winner(sock, sockets, check)
            fail(key.data, OSError(code, os.strerror(code)))
            selector.unregister(sock)
            pending -= 1
            sockets.remove(sock)
            sock.close()
        check()


def _winner(sock: socket.socket, sockets: list[socket.socket], check: Callable[[], None]) -> socket.socket:
    check()  # a socket that was shut down meanwhile shows no error, either
    for other in sockets:
        if other is not sock:
            other.close()
    sockets[:] = [sock]
    return sock


def _time_to_wait(deadline: float | None, next_attempt: float | None, failures: list[OSError]) -> float | None:
    now = monotonic()
    if deadline is not None and now >= deadline:
        # It's worth knowing why the others did not get it.
        known = f"; before that: {_most_informative(failures)}" if failures else ""
        raise socket.timeout(f"timed out{known}")
    limits = [limit - now for limit in (deadline, next_attempt) if limit is not None]
    return max(0.0, min(limits)) if limits else None


def _most_informative(failures: list[OSError]) -> OSError:
    return min(failures, key=lambda error: _LESS_INFORMATIVE.get(error.errno or 0, 0))


def interleave(addresses: list[Any]) -> list[Any]:
    """Return addresses such that the families take turns, each in its own order (RFC 8305 section 4)."""
    families: dict[Any, deque[Any]] = {}
    for address in addresses:
        families.setdefault(address[0], deque()).append(address)
    ordered = []
    while families:
        for family in list(families):
            ordered.append(families[family].popleft())
            if not families[family]:
                del families[family]
    return ordered
