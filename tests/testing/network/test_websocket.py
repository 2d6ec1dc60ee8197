"""WebSocket connections: control frames, and clients that never finish their upgrade."""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import websocket

from pie_sync.testing import LocalServer
from pie_sync.testing._network.websocket import Connection, Listener, NothingSentError
from tests.testing.raw import CLOSE_LIMIT, PATIENCE, RawClient


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


def test_a_handler_may_close_the_listener() -> None:
    before = set(threading.enumerate())
    closed: queue.SimpleQueue[bool] = queue.SimpleQueue()
    accepted = threading.Event()

    def handle(_connection: Connection) -> None:
        assert accepted.wait(PATIENCE)
        closed.put(listener.close(time.monotonic() + 0.05))

    listener = Listener("127.0.0.1", 0, None, handle, lambda _path, _headers: None)
    client = websocket.create_connection(f"ws://127.0.0.1:{listener.port}", timeout=PATIENCE)
    accepted.set()
    assert closed.get(timeout=PATIENCE) is True  # it did not wait for itself
    client.shutdown()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
    assert set(threading.enumerate()) <= before


def test_close_does_not_wait_for_clients_that_connect_at_that_moment() -> None:
    for _ in range(20):
        before = set(threading.enumerate())
        with LocalServer() as server:
            address = ("127.0.0.1", server.port)
            sockets = [socket.create_connection(address, PATIENCE) for _ in range(20)]
            started = time.monotonic()
            server.close()
            assert time.monotonic() - started < CLOSE_LIMIT
        assert set(threading.enumerate()) <= before
        for sock in sockets:
            with sock:
                try:
                    assert sock.recv(1) == b""
                except ConnectionResetError:
                    pass  # it was still waiting to be accepted


def test_a_connection_waits_until_the_process_has_a_descriptor_for_it() -> None:
    resource = pytest.importorskip("resource")
    told = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    handler = Handler()
    logger = logging.getLogger("pie_sync.testing.websocket")
    logger.addHandler(handler)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with LocalServer() as server, socket.socket() as sock:
            resource.setrlimit(resource.RLIMIT_NOFILE, (1, limits[1]))
            try:
                sock.connect(("127.0.0.1", server.port))
                assert told.wait(PATIENCE)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            websocket.create_connection(server.uri, socket=sock).close()
    finally:
        logger.removeHandler(handler)


def test_a_connection_can_be_lost_before_the_first_message_or_later() -> None:
    serving = threading.Event()
    connections: list[Connection] = []

    def handle(connection: Connection) -> None:
        connections.append(connection)
        serving.set()
        assert ended.wait(PATIENCE)

    ended = threading.Event()
    listener = Listener("127.0.0.1", 0, None, handle, lambda _path, _headers: None)
    peer = websocket.create_connection(f"ws://127.0.0.1:{listener.port}", timeout=PATIENCE)
    try:
        assert serving.wait(PATIENCE)
        (connection,) = connections
        connection.transmit([b"bytes", "text"])
        assert [peer.recv(), peer.recv()] == [b"bytes", "text"]

        def messages() -> Iterator[bytes]:
            yield bytes(300 * 1024)
            assert len(peer.recv()) == 300 * 1024
            connection.abort()
            yield bytes(300 * 1024)

        with pytest.raises(ConnectionError):
            connection.transmit(messages())
        with pytest.raises(NothingSentError):
            connection.transmit([b"nothing"])
        connection.transmit([])  # nothing to send is no error
    finally:
        ended.set()
        peer.shutdown()
        assert listener.close(time.monotonic() + PATIENCE)
