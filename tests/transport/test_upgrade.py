"""The HTTP upgrade over a real socket, and what is relied on of websocket-client, in the release that is here."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import socket
import threading
from typing import TYPE_CHECKING

import pytest
import websocket

from pie_sync import PieClient, PieConnectionError
from pie_sync._transport.upgrade import UpgradeRefusedError, upgrade
from pie_sync._transport.uri import parse_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS = parse_uri("ws://bücher.example:8080/a b?c=d")


class Server(threading.Thread):
    """Answers one request.

    Attributes:
        request: what came, whole.
    """

    def __init__(self, sock: socket.socket, answer: str) -> None:
        super().__init__()
        self.request = ""
        self._socket = sock
        self._answer = answer
        self.start()

    def run(self) -> None:
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += self._socket.recv(65536)
        self.request = data.decode()
        key = re.search("Sec-WebSocket-Key: (.*)\r\n", self.request)[1]
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        accept = base64.b64encode(digest).decode()
        self._socket.sendall(self._answer.replace("ACCEPT", accept).encode("latin-1"))
        self._socket.shutdown(socket.SHUT_WR)


ACCEPTS = (
    "HTTP/1.1 101 Welcome\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n"
)


def with_header(line: str) -> str:
    return ACCEPTS.replace("\r\n\r\n", f"\r\n{line}\r\n\r\n")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield ours, theirs


def attempt(ends, answer: str, headers: dict[str, str] | None = None) -> str:
    """Return the request."""
    server = Server(ends[1], answer)
    try:
        upgrade(ends[0], ADDRESS, headers or {}, lambda: None, lambda: None)
    finally:
        server.join(10)
    return server.request


def test_the_request(ends):
    request = attempt(ends, ACCEPTS, {"Cookie": "the user's", "X-More": "ä"})
    assert re.sub("(?<=Sec-WebSocket-Key: ).*(?=\r)", "KEY", request).splitlines() == [
        "GET /a%20b?c=d HTTP/1.1",
        "Upgrade: websocket",
        "Host: xn--bcher-kva.example:8080",
        "Sec-WebSocket-Key: KEY",
        "Sec-WebSocket-Version: 13",
        "Connection: Upgrade",
        "Cookie: the user's",
        "X-More: ä",
        "",
    ]


def test_not_a_byte_is_read_beyond_the_answer(ends):
    attempt(ends, ACCEPTS + "the first frame")
    assert ends[0].recv(100) == b"the first frame"
    assert ends[0].recv(100) == b""


@pytest.mark.parametrize(
    "answer",
    [
        with_header("Set-Cookie: a/b=1; Path=/"),
        with_header("Set-Cookie: \x00=\x01"),
        with_header("X: \xff\xfe"),
        with_header("no header at all"),
        ACCEPTS.replace("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
        ACCEPTS.replace("\r\n", "\n"),
        ACCEPTS.replace(" Welcome", ""),
    ],
)
def test_what_does_not_matter_does_not_refuse_it(ends, answer):
    attempt(ends, answer)


@pytest.mark.parametrize(
    "answer",
    [
        ACCEPTS.replace("ACCEPT", "of another key"),
        ACCEPTS.replace("Sec-WebSocket-Accept: ACCEPT\r\n", ""),
        ACCEPTS.replace("Upgrade: WebSocket\r\n", ""),
        ACCEPTS.replace("Connection: Upgrade\r\n", ""),
        "\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/2 101\r\n\r\n",
    ],
)
def test_what_matters_does(ends, answer):
    with pytest.raises(websocket.WebSocketException):
        attempt(ends, answer)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", "404 Not Found: gone"),
        ("HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", "404"),
        ("HTTP/1.1 503 Busy\r\nRetry-After: 120\r\n\r\n", "503 Busy (Retry-After: 120)"),
        (
            "HTTP/1.1 429 Too Many\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\nno",
            "429 Too Many: no (Retry-After: 3)",
        ),
        ("HTTP/1.1 500 \x1b[2J\r\nContent-Length: 9\r\n\r\n<p>\r\n\x1b[0m", r"500 \x1b[2J: <p> \x1b[0m"),
        ("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nx", "200 OK"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut off", "200 OK: cut off"),
        ("HTTP/1.1 200 OK\r\n\r\nwithout a length", "200 OK"),
        (f"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{'x' * 5000}", f"200 OK: {'x' * 197}..."),
        ("HTTP/1.1 307 Elsewhere\r\nLocation: ws://elsewhere\r\n\r\n", "307 Elsewhere"),
    ],
)
def test_refusals(ends, answer, text):
    with pytest.raises(UpgradeRefusedError) as caught:
        attempt(ends, answer)
    assert str(caught.value) == text
    assert caught.value.status_code == int(answer.split()[1])


def test_a_server_that_hangs_up(ends):
    with pytest.raises(ConnectionResetError, match="before it answered"):
        attempt(ends, "HTTP/1.1 101 Wel")


@pytest.mark.parametrize(
    "error", [TimeoutError("a signal's"), OSError("timed out"), RuntimeError(), KeyboardInterrupt()]
)
def test_an_error_of_the_limit_passes_as_it_is(ends, error):
    def limit() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        upgrade(ends[0], ADDRESS, {}, limit, lambda: None)
    assert caught.value is error


def test_its_log_for_all_sees_no_header(ends, caplog):
    """websocket.enableTrace() is for the whole process, and prints requests. Those of others; not ours."""
    handler = logging.NullHandler()
    websocket.enableTrace(True, handler)
    caplog.set_level(1, "websocket")
    try:
        attempt(ends, with_header("X-Secret: of the server"), {"Authorization": "of the user"})
        assert "Sec-WebSocket-Key" in caplog.text, "the log is blind"
    finally:
        websocket.enableTrace(False)
        logging.getLogger("websocket").removeHandler(handler)
    assert "of the user" not in caplog.text
    assert "of the server" not in caplog.text


def test_its_time_limit_for_all_is_not_ours(server):
    before = websocket.getdefaulttimeout()
    websocket.setdefaulttimeout(1e-9)
    try:
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            assert client.ping() > 0
    finally:
        websocket.setdefaulttimeout(before)


def test_a_head_that_never_ends(ends):
    with pytest.raises(ConnectionAbortedError, match="longer than 1048576 bytes"):
        attempt(ends, "HTTP/1.1 101 Welcome\r\nX: " + "x" * (1024 * 1024))


def test_the_error_of_a_client(server, monkeypatch):
    def refuse(*args: object, **options: object) -> None:
        raise websocket.WebSocketException("of its own")

    monkeypatch.setattr(websocket.WebSocket, "connect", refuse)
    with pytest.raises(PieConnectionError, match="of its own"):
        PieClient(server.uri).connect()
