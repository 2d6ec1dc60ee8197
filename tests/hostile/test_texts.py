"""What a server says is repeated in errors: as one line, that controls no terminal, and not at any length."""

from __future__ import annotations

import pytest

from pie_sync import AuthenticationError, LaunchError, PieClient, PieConnectionError
from tests.faults.raw_server import RawPeer, raw_server

#: Clears the screen, begins a new line, turns the direction of writing.
NASTY = "bad\x1b[2J\x1b]0;title\x07\r\n\u202eline\u2028\x85end"
HARMLESS = r"bad\x1b[2J\x1b]0;title\x07 \u202eline end"


def test_a_refused_upgrade():
    body = f"<html>\n{NASTY}{'x' * 100_000}".encode()

    def serve(peer: RawPeer) -> None:
        peer.socket.recv(65536)
        head = f"HTTP/1.1 503 \x1b[1mNo\r\nRetry-After: 5\x1b[0m\r\nContent-Length: {len(body)}\r\n\r\n"
        peer.socket.sendall(head.encode() + body)

    with raw_server(serve) as uri, pytest.raises(PieConnectionError) as caught:
        PieClient(uri).connect()
    text = str(caught.value)
    assert text.isprintable()
    assert rf"refused the WebSocket upgrade: 503 \x1b[1mNo: <html> {HARMLESS}xxx" in text
    assert text.endswith(r"... (Retry-After: 5\x1b[0m)")
    assert len(text) < 400


def test_a_redirect():
    def serve(peer: RawPeer) -> None:
        peer.socket.recv(65536)
        location = f"ws://elsewhere/\x1b[2J{'x' * 1000}"
        peer.socket.sendall(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n".encode())

    with raw_server(serve) as uri, pytest.raises(PieConnectionError) as caught:
        PieClient(uri).connect()
    assert r"redirects to ws://elsewhere/\x1b[2Jxxx" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_server_of_something_else():
    def serve(peer: RawPeer) -> None:
        peer.socket.recv(65536)
        peer.socket.sendall(b"220 \x1b[2J" + b"x" * 1000 + b"\r\n\r\n")

    with raw_server(serve) as uri, pytest.raises(PieConnectionError, match="does not answer in HTTP/1") as caught:
        PieClient(uri).connect()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_refused_authentication():
    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        for _ in range(2):
            request = peer.receive()
            peer.send(
                type="response", corr_id=request["corr_id"], successful=False, result=NASTY + "x" * 1_000_000
            )

    with raw_server(serve) as uri, PieClient(uri) as client:
        for method in (client.authenticate, client.internal_authenticate):
            with pytest.raises(AuthenticationError) as caught:
                method("alice")
            assert HARMLESS in str(caught.value)
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 300


def test_a_refused_request():
    reason = NASTY + "x" * 1_000_000

    def serve(peer: RawPeer) -> None:
        peer.authenticate()
        corr_id = peer.receive()["corr_id"]
        peer.send(type="instance_launch_result", corr_id=corr_id, successful=False, message=reason)
        peer.receive()

    with raw_server(serve) as uri, PieClient(uri) as client:
        client.authenticate("alice")
        with pytest.raises(LaunchError) as caught:
            client.launch_instance_from_registry("program")
    assert str(caught.value).startswith(f"launch_instance_from_registry failed: {HARMLESS}xxx")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 2000
    assert caught.value.reason == reason


def test_the_reason_of_a_close():
    from websockets.frames import Close, Frame, Opcode

    def serve(peer: RawPeer) -> None:
        peer.authenticate()
        peer.receive()
        peer.socket.sendall(Frame(Opcode.CLOSE, Close(1011, NASTY).serialize()).serialize(mask=False))
        peer.receive()

    with raw_server(serve) as uri, PieClient(uri) as client:
        client.authenticate("alice")
        with pytest.raises(PieConnectionError) as caught:
            client.ping()
    assert HARMLESS in str(caught.value)
    assert str(caught.value).isprintable()
