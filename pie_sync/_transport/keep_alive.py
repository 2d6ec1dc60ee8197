"""What the system knows of the other end: tells a host that has vanished from a server that is merely busy.

A server that is stopped or overloaded answers no ping of WebSocket, but its system still acknowledges what
arrives. A host that has vanished acknowledges nothing. So the two have different time limits: the client may be
patient with the former, and gives the latter up soon.

- While nothing is on its way, TCP's own keep-alive asks every host, and ends the connection to one that is gone.
- While something is unacknowledged, Linux does not do that, and retransmits for a quarter of an hour. There
  :func:`unanswered_for` tells. ``TCP_USER_TIMEOUT`` would be simpler, but it also ends the connection to a server
  that does not read: one with a full receive window, whose system answers each probe of that window.
- Windows and macOS have a time limit for retransmissions.
"""

from __future__ import annotations

import socket
import struct
import sys

from .tls import TlsSocket

__all__ = ["KEEP_ALIVE_OPTIONS", "VANISHED_AFTER", "unanswered_for"]

#: After how many seconds without any acknowledgement a host counts as vanished.
VANISHED_AFTER = 40

#: Seconds of silence before TCP asks, seconds between two questions, and how many of them: a minute in all.
_IDLE, _INTERVAL, _COUNT = 30, 10, 3


def _options() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    if sys.platform == "darwin":
        options += [
            (socket.IPPROTO_TCP, 0x10, _IDLE),  # TCP_KEEPALIVE, which Python has from 3.10 on
            (socket.IPPROTO_TCP, 0x80, VANISHED_AFTER),  # TCP_RXT_CONNDROPTIME
        ]
    elif sys.platform == "win32":
        options.append((socket.IPPROTO_TCP, 5, VANISHED_AFTER))  # TCP_MAXRT, from Windows 10 on
    for name, value in (("TCP_KEEPIDLE", _IDLE), ("TCP_KEEPINTVL", _INTERVAL), ("TCP_KEEPCNT", _COUNT)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


#: Options of a socket, in the form of ``setsockopt``. A kernel may refuse any of them.
KEEP_ALIVE_OPTIONS = _options()

#: The beginning of ``struct tcp_info`` of Linux, which only ever grows at its end.
_TCP_INFO = struct.Struct("=8B13I")


def unanswered_for(sock: socket.socket | TlsSocket) -> float:
    """Return for how many seconds the other end's system has acknowledged nothing, though it was asked to.

    0.0 if the other end owes no answer, and where the system does not tell.
    """
    if sys.platform == "linux":
        try:
            info = _TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
        except (OSError, struct.error):  # no TCP, or a system that only looks like Linux
            return 0.0
        probes, unacknowledged, last_sent, last_acknowledged = info[3], info[12], info[17], info[20]
        # Both times are in milliseconds. An answer gets a second to come. Two probes of a window that is closed,
        # since nothing tells when the last of them was sent.
        if probes >= 2 or (unacknowledged > 0 and 1000 <= last_sent < last_acknowledged):
            return float(last_acknowledged) / 1000
    return 0.0
