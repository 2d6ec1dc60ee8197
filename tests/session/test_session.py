"""Connecting, and the connection as a whole."""

from __future__ import annotations

import threading
import time

import pytest

from pie_sync import PieClient as Client
from pie_sync import PieConnectionError, PieConnectTimeoutError
from tests.scripted import Peer, connect, scripted_server, wait_for_close


class TestConnecting:
    def test_nobody_listens(self):
        import socket

        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            uri = f"ws://127.0.0.1:{unused.getsockname()[1]}"
            with pytest.raises(PieConnectionError, match="can't connect to ws://127.0.0.1"):
                Client(uri).connect()

    def test_a_server_that_says_nothing(self):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as silent:
            begin = time.monotonic()
            with pytest.raises(PieConnectTimeoutError, match="within 0.5 s") as caught:
                Client(f"ws://127.0.0.1:{silent.getsockname()[1]}", connect_timeout=0.5).connect()
            assert 0.4 < time.monotonic() - begin < 3
            assert isinstance(caught.value, TimeoutError)
            assert isinstance(caught.value, ConnectionError)

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno pies", "404 Not Found: no pies"),
            (b"HTTP/1.1 302 Found\r\nLocation: ws://elsewhere/\r\n\r\n", "redirects to ws://elsewhere/"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "can't connect"),
            (b"", "can't connect"),
        ],
    )
    def test_a_server_that_is_no_pie_server(self, answer, reason):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve():
                for _ in range(2 if b" 404 " in answer else 1):  # a 404 makes the client try Pie 0.5's own path
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            with pytest.raises(PieConnectionError, match=reason):
                Client(f"ws://127.0.0.1:{server.getsockname()[1]}").connect()
            thread.join()

    def test_a_silent_connection_is_tested_with_pings(self):
        """A peer that is gone without a word is noticed within ping_interval + ping_timeout."""
        import socket

        from websockets.server import ServerProtocol

        with socket.create_server(("127.0.0.1", 0)) as server:
            gone = threading.Event()

            def serve():
                connection, _ = server.accept()
                with connection:
                    protocol = ServerProtocol()
                    protocol.receive_data(connection.recv(65536))
                    (request,) = protocol.events_received()
                    protocol.send_response(protocol.accept(request))
                    for data in protocol.data_to_send():
                        connection.sendall(data)
                    gone.wait(30)

            thread = threading.Thread(target=serve)
            thread.start()
            try:
                uri = f"ws://127.0.0.1:{server.getsockname()[1]}"
                with connect(uri, ping_interval=0.3, ping_timeout=0.3) as client:
                    begin = time.monotonic()
                    with pytest.raises(PieConnectionError, match="not even an answer to a ping"):
                        client.authenticate("alice")
                    assert time.monotonic() - begin < 3
            finally:
                gone.set()
                thread.join()

    def test_pings_of_the_server_are_answered(self):
        answered = threading.Event()

        def script(peer: Peer) -> None:
            peer.authenticate()
            if peer.connection.ping(b"are you there?").wait(10):
                answered.set()
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            client.authenticate("alice")
            assert answered.wait(10)

    def test_headers_reach_the_server(self):
        seen = []

        def script(peer: Peer) -> None:
            seen.append(peer.connection.request.headers)
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri, headers={"X-Team": "bakers"}):
            pass
        assert seen[0]["X-Team"] == "bakers"
        assert "Origin" not in seen[0]

    def test_both_sides_close_properly(self):
        codes = []

        def script(peer: Peer) -> None:
            wait_for_close(peer)
            codes.append((peer.connection.close_code, peer.connection.protocol.close_rcvd_then_sent))

        with scripted_server(script) as uri:
            connect(uri).close()
        assert codes == [(1000, True)]
