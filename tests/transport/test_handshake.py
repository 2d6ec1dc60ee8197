"""The opening handshake: what comes of it, and what a user is told if nothing does."""

from __future__ import annotations

import socket
from time import monotonic

import pytest

from pie_sync import PieConnectionError, PieConnectTimeoutError
from pie_sync._transport.handshake import Connector
from tests.faults.raw_server import RawPeer, raw_server


def connector(uri: str, timeout: float = 20, **options) -> Connector:
    return Connector(uri, deadline=monotonic() + timeout, timeout=timeout, headers={}, ssl_context=None, **options)


def error_of(connecting: Connector) -> PieConnectionError:
    with pytest.raises(PieConnectionError) as caught:
        connecting.connect(lambda: None)
    return caught.value


def test_the_socket_of_an_upgraded_connection():
    asked = []
    with raw_server(RawPeer.upgrade) as uri:
        connecting = connector(uri)
        sock = connecting.connect(lambda: asked.append(uri))
        assert sock.fileno() >= 0
        assert asked == [uri]
        connecting.close()
        assert sock.fileno() == -1


def test_what_fails_is_closed_and_has_a_cause():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"ws://127.0.0.1:{listener.getsockname()[1]}"
    error = error_of(connector(uri))
    assert str(error).startswith(f"can't connect to {uri}: ")
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert not isinstance(error, TimeoutError)


def test_a_time_limit_that_is_over():
    with raw_server(lambda peer: peer.stopped.wait(20)) as uri:
        error = error_of(connector(uri, timeout=0.2))
    assert isinstance(error, PieConnectTimeoutError)
    assert error.text == f"no connection to {uri} within 0.2 s (connect_timeout)"
    assert error.hint is not None
    assert "connect_timeout" in error.hint


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("302 Found\r\nLocation: ws://elsewhere", "redirects to ws://elsewhere, which is not followed"),
        ("302 Found", "redirects to nowhere, which is not followed"),
        ("403 Forbidden", "refused the WebSocket upgrade: 403 Forbidden"),
    ],
)
def test_refusals(answer, text):
    def serve(peer: RawPeer) -> None:
        peer.socket.recv(65536)
        peer.socket.sendall(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())

    with raw_server(serve) as uri:
        assert text in str(error_of(connector(uri)))


def test_given_up_before_it_began():
    with raw_server(RawPeer.upgrade) as uri:
        connecting = connector(uri)
        connecting.abort()
        assert "connecting was given up" in str(error_of(connecting))
