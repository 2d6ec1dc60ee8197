"""A TCP proxy on the loopback that simulates a bad network."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

UP, DOWN = "client to server", "server to client"


class Proxy:
    """Forwards connections to a server, with the faults that these attributes choose.

    Attributes:
        cut_after: how many bytes of a direction pass before the proxy disconnects both sides.
        reset: disconnect with an RST instead of a FIN.
        delay: called for every chunk; returns the seconds by which the chunk is delayed.
        chunk_size: the most bytes that are forwarded at once.
        forwarded: the bytes that passed in each direction, of all connections, if ``record``.
    """

    def __init__(self, uri: str, *, record: bool, buffer_size: int | None) -> None:
        parts = urlsplit(uri)
        self.server = (parts.hostname, parts.port)
        self.record = record
        self.buffer_size = buffer_size
        self.cut_after: dict[str, int] = {}
        self.reset = False
        self.delay: Callable[[], float] | None = None
        self.chunk_size = 65536
        self.forwarded = {UP: bytearray(), DOWN: bytearray()}
        self.frozen = threading.Event()
        self.stopped = threading.Event()
        self._lock = threading.Lock()  # guards _lines
        self._lines: dict[_Line, threading.Thread] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        if buffer_size is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_size)
        self.uri = f"{parts.scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._acceptor = threading.Thread(target=self._accept, name="proxy")
        self._acceptor.start()

    def freeze(self) -> None:
        """Forward nothing from here on, and keep both connections open, as when a cable is pulled."""
        self.frozen.set()

    def stop(self) -> None:
        self.stopped.set()
        _shut_down(self._listener)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            lines = dict(self._lines)
        for line, thread in lines.items():
            line.shut_down()
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            line = _Line(self, client)
            thread = threading.Thread(target=self._serve, args=(line,), name="proxy")
            with self._lock:
                self._lines[line] = thread
            thread.start()

    def _serve(self, line: _Line) -> None:
        try:
            line.run()
        finally:
            with self._lock:
                del self._lines[line]


class _Line:
    """One connection through the proxy: two sockets, and a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = socket.socket()
        # Serialises forwarding and cutting: all recorded bytes were forwarded before the cut.
        self._lock = threading.Lock()
        self._is_cut = False

    def run(self) -> None:
        with self._client, self._server:
            if self._proxy.buffer_size is not None:
                self._server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._proxy.buffer_size)
            try:
                self._server.connect(self._proxy.server)
            except OSError:
                return  # the server is gone
            for sock in (self._client, self._server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            other = threading.Thread(target=self._pump, args=(DOWN, self._server, self._client), name="proxy")
            other.start()
            self._pump(UP, self._client, self._server)
            other.join()

    def shut_down(self) -> None:
        _shut_down(self._client)
        _shut_down(self._server)

    def _pump(self, direction: str, source: socket.socket, target: socket.socket) -> None:
        proxy, passed = self._proxy, 0
        try:
            while (may_pass := self._limit(direction) - passed) > 0:
                data = source.recv(min(may_pass, proxy.chunk_size))
                if not data:
                    break
                if proxy.frozen.is_set():
                    proxy.stopped.wait(60)
                    return
                if proxy.delay is not None:
                    proxy.stopped.wait(proxy.delay())
                passed += len(data)
                if proxy.record:
                    self._forward_and_record(direction, data, target)
                else:
                    target.sendall(data)
            else:
                self._cut()
        except OSError:
            pass
        if not self._is_cut:
            self.shut_down()

    def _forward_and_record(self, direction: str, data: bytes, target: socket.socket) -> None:
        with self._lock:
            if not self._is_cut:
                self._proxy.forwarded[direction] += data
                target.sendall(data)

    def _limit(self, direction: str) -> int:
        return self._proxy.cut_after.get(direction, sys.maxsize)

    def _cut(self) -> None:
        with self._lock:
            self._is_cut = True
            if not self._proxy.reset:
                self.shut_down()
                return
        for sock in (self._client, self._server):
            # Closing such a socket sends an RST; until then the peers notice nothing.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                sock.shutdown(socket.SHUT_RD)
            except OSError:
                pass


def _shut_down(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


@contextmanager
def proxy_to(uri: str, *, record: bool = False, buffer_size: int | None = None) -> Iterator[Proxy]:
    """Run a proxy in front of a server.

    Args:
        uri: the server's.
        record: keep the bytes that pass.
        buffer_size: the size of the system's buffers of both directions; None means the system's default, which
            can hold megabytes.
    """
    proxy = Proxy(uri, record=record, buffer_size=buffer_size)
    try:
        yield proxy
    finally:
        proxy.stop()
