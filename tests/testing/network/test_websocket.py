"""WebSocket connections: control frames, and clients that never finish their upgrade."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import websocket

from pie_sync.testing import LocalServer
from tests.testing.raw import CLOSE_LIMIT, RawClient


def test_close_does_not_wait_for_a_client_that_never_shook_hands() -> None:
    before = set(threading.enumerate())
    with LocalServer() as server:
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address) as silent, socket.create_connection(address) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\n")
            with RawClient(server.uri):  # accepted after them
                started = time.monotonic()
                server.close()
                assert time.monotonic() - started < CLOSE_LIMIT
            assert set(threading.enumerate()) <= before
            assert silent.recv(1) == b""


def test_a_dropped_client_sees_no_farewell(server: LocalServer, client: RawClient) -> None:
    server.drop_connections()
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        client.socket.recv_data_frame(control_frame=True)


def test_a_client_that_closes_gets_the_close_frame_back(server: LocalServer, client: RawClient) -> None:
    client.socket.send_close(1000)
    opcode, frame = client.socket.recv_data_frame(control_frame=True)
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    assert frame.data[:2] == (1000).to_bytes(2, "big")


def test_websocket_pings_are_answered(client: RawClient) -> None:
    client.socket.ping("are you there")
    opcode, frame = client.socket.recv_data_frame(control_frame=True)
    assert (opcode, frame.data) == (websocket.ABNF.OPCODE_PONG, b"are you there")
