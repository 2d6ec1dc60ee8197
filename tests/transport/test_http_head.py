"""The heads of HTTP responses, from real sockets."""

from __future__ import annotations

import socket
import threading

import pytest

from pie_sync._transport.http_head import Head, parse_head, read_head

HEAD = b"HTTP/1.1 200 OK\r\nA: 1\r\n\r\n"


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield ours, theirs


@pytest.mark.parametrize("head", [HEAD, HEAD.replace(b"\r", b""), b"\r\n\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_it_is_read_up_to_its_end_whatever_the_pieces(ends, head, size):
    ours, theirs = ends
    data = head + b"and more"
    read: list[bytes] = []

    def limit() -> None:  # before each read there is one piece more to read
        nonlocal data
        theirs.sendall(data[:size])
        data = data[size:]

    read.append(read_head(ours, limit, 1000))
    assert read == [head]
    theirs.sendall(data + b"!")
    rest = b""
    while not rest.endswith(b"!"):
        rest += ours.recv(100)
    assert rest == b"and more!"


def test_the_end_of_the_connection(ends):
    ours, theirs = ends
    theirs.sendall(HEAD[:-1])
    theirs.close()
    with pytest.raises(EOFError):
        read_head(ours, lambda: None, 1000)


def test_it_is_bounded(ends):
    ours, theirs = ends
    sender = threading.Thread(target=theirs.sendall, args=(b"x" * 10_000,))
    sender.start()
    with pytest.raises(OverflowError):
        read_head(ours, lambda: None, 1000)
    while sender.is_alive():
        ours.recv(10_000)
        sender.join(0.01)


@pytest.mark.parametrize(
    ("data", "head"),
    [
        (HEAD, Head(200, "OK", {"a": "1"})),
        (b"HTTP/1.0 404\r\n\r\n", Head(404, "", {})),
        (b"HTTP/1.1 503 \xff\r\nNo header\r\nA:1\r\na: 2 \r\n\r\n", Head(503, "\xff", {"a": "1, 2"})),
    ],
)
def test_what_it_says(data, head):
    assert parse_head(data) == head


@pytest.mark.parametrize(
    "data", [b"\r\n\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 20\r\n\r\n", HEAD[1:]]
)
def test_what_is_none(data):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text is checked
        parse_head(data)
    assert str(caught.value) == data.split(b"\r\n\r\n")[0].split(b"\r\n")[0].decode()
