"""Connecting, and the connection as a whole."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import msgpack
import pytest
import trustme

from pie_sync import PieClient as Client
from pie_sync import PieConnectionError, PieConnectTimeoutError
from pie_sync._transport import byte_stream
from tests.faults.raw_server import RawPeer, raw_server
from tests.faults.tls_terminator import libssl, tls_terminator
from tests.old_process_server import old_process_server
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


class TestTheFarewell:
    """Pie 0.3 and 0.4 answer a close frame only if something is written after it, and else leak the socket."""

    @pytest.mark.parametrize("protocol", ["auto", "process"])
    @pytest.mark.parametrize("authenticated", [True, False])
    def test_0_3_and_0_4_answer_the_close_and_leak_nothing(self, protocol, authenticated):
        with old_process_server() as server:
            begin = time.monotonic()
            for _ in range(10):
                client = connect(server.uri, protocol=protocol)
                if authenticated:
                    client.authenticate("alice")
                client.close()
            assert time.monotonic() - begin < 8  # it took a second for each
            assert (server.closed, server.leaked) == (10, 0)
            wanted = "ping" if authenticated else "auth_prove"
            assert server.requests[-1]["type"] == wanted

    @pytest.mark.skipif(libssl is None, reason="needs the library of OpenSSL 3")
    def test_over_tls(self, tmp_path):
        authority, certificate = trustme.CA(), tmp_path / "server.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with old_process_server() as server, tls_terminator(server.uri, certificate, every=1000) as terminator:
            for _ in range(3):
                client = connect(terminator.uri, ssl_context=context)
                client.authenticate("alice")
                client.close()
            assert (server.closed, server.leaked) == (3, 0)

    def test_a_message_that_is_too_big_does_not_leak_either(self):
        big = {"type": "process_event", "process_id": "p", "event": "stdout", "value": "x" * 5000}

        def answer(message):
            return [big, (True, "[]")]

        with old_process_server(answer) as server:
            client = connect(server.uri, protocol="process", max_message_size=1000)
            client.authenticate("alice")
            with pytest.raises(PieConnectionError, match="max_message_size"):
                client.list_instances()
            client.close()
            assert (server.closed, server.leaked) == (1, 0)

    def test_a_server_up_to_0_2_that_is_known_gets_none(self):
        said = []

        def script(peer: Peer) -> None:
            peer.authenticate()
            for data in peer.connection:
                said.append(msgpack.unpackb(data)["type"])

        with scripted_server(script) as uri:
            client = connect(uri)
            client.authenticate("alice")
            client.close()
        assert said == ["auth_identify"]  # the question that this generation ignores

    def test_0_5_gets_none(self):
        """It answers the close by itself, and tells of everything that it does not understand."""
        said = []

        def script(peer: Peer) -> None:
            for data in peer.connection:
                said.append(data)

        with scripted_server(script) as uri:
            client = connect(uri + "/v1/ws")
            client.close()
        assert said == []


class TestLongMessages:
    """Servers up to Pie 0.4 take frames of 16 MiB, and messages of 64 MiB in fragments."""

    @staticmethod
    def largest_frames(connection, sizes):
        """Note the size of each frame that comes."""
        original = connection.protocol.recv_frame

        def recv_frame(frame):
            sizes.append(len(frame.data))
            original(frame)

        connection.protocol.recv_frame = recv_frame

    def test_a_message_arguments_and_a_manifest_go_in_fragments(self):
        sizes, got = [], []
        text = "0123456789abcdef" * (20 * 1024 * 1024 // 16)

        def script(peer: Peer) -> None:
            self.largest_frames(peer.connection, sizes)
            peer.authenticate()
            request = peer.receive(60)
            got.append(request["arguments"][0])
            peer.send(
                type="instance_launch_result", corr_id=request["corr_id"], successful=True, message="instance-1"
            )
            got.append(peer.receive(60)["message"])
            request = peer.receive(60)
            got.append(request["manifest"])
            peer.respond(request, request["program_hash"])
            wait_for_close(peer)

        manifest = f'[package]\nname = "long/one"\nversion = "1.0.0"\ndescription = "{text}"\n'
        with scripted_server(script, max_size=None) as uri:
            client = connect(uri, timeout=60)
            client.authenticate("alice")
            instance = client.launch_instance_from_registry("echo", [text])
            instance.send(text)
            client.upload_program(b"\0asm", manifest=manifest)
            client.close()
        assert [len(part) for part in got] == [len(text), len(text), len(manifest)]
        assert got[:2] == [text, text]
        assert got[2] == manifest
        assert 0 < max(sizes) <= 1024 * 1024

    def test_more_than_64_mib_is_told_before_anything_is_sent(self):
        def script(peer: Peer) -> None:
            peer.authenticate()
            peer.launch()
            assert peer.receive()["message"] == "short"
            wait_for_close(peer, answer_pings=True)

        with scripted_server(script, max_size=None) as uri:
            client = connect(uri)
            client.authenticate("alice")
            instance = client.launch_instance_from_registry("echo")
            long = "x" * (64 * 1024 * 1024)
            with pytest.raises(ValueError, match="no more than 64 MiB"):
                instance.send(long)
            with pytest.raises(ValueError, match="no more than 64 MiB"):
                client.launch_instance_from_registry("echo", [long])
            with pytest.raises(ValueError, match="no more than 64 MiB"):
                next(client.map("echo", [[long]]))
            with pytest.raises(ValueError, match="no more than 64 MiB"):
                client.query("model_status", long)
            instance.send("short")
            client.ping()
            assert client.stats().pending_requests == 0
            client.close()

    def test_0_5_takes_7_mib_and_one_frame(self):
        sizes = []

        def script(peer: Peer) -> None:
            self.largest_frames(peer.connection, sizes)
            request = peer.receive()
            peer.send(type="response", corr_id=request["corr_id"], ok=True, result="process-1")
            peer.receive()
            wait_for_close(peer)

        with scripted_server(script, max_size=None) as uri:
            client = connect(uri + "/v1/ws")
            instance = client.launch_instance_from_registry("echo")
            with pytest.raises(ValueError, match="7 MiB"):
                instance.send("x" * (7 * 1024 * 1024))
            instance.send("x" * (6 * 1024 * 1024))
            client.close()
        assert max(sizes) > 6 * 1024 * 1024


class TestServersWithNaglesAlgorithm:
    """Up to 0.2 they hold a second write back until the first is acknowledged, which usually takes 40 ms."""

    TIMES = 10

    def take(self, uri: str, **options) -> float:
        """Return the seconds that a launch with its end takes, at its best."""
        with connect(uri, **options) as client:
            client.authenticate("alice")
            taken = []
            for _ in range(self.TIMES):
                begin = time.monotonic()
                assert client.launch_instance_from_registry("short").wait(20).message == "done"
                taken.append(time.monotonic() - begin)
            # (Linux acknowledges the first few segments of a connection at once.)
            return sorted(taken)[self.TIMES // 2]

    @pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="the system has no TCP_QUICKACK")
    def test_a_short_instance_does_not_wait_for_a_delayed_acknowledgement(self):
        with raw_server(self.serve) as uri:
            quick = self.take(uri)
        with raw_server(self.serve) as uri, pytest.MonkeyPatch.context() as patch:
            patch.setattr(byte_stream, "_QUICK_ACK", None)
            slow = self.take(uri)
        assert slow > 0.03, "this server holds nothing back, so the test shows nothing"
        assert quick < slow / 2

    def serve(self, peer: RawPeer) -> None:
        peer.authenticate()
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        for number in range(self.TIMES):
            instance_id = f"instance-{number}"
            peer.launch(instance_id)
            peer.send(type="instance_event", instance_id=instance_id, event=1, message="done")
        peer.stopped.wait(20)

    @pytest.mark.parametrize("generation", ["0.2", "0.4"])
    def test_only_where_it_is_needed(self, generation, monkeypatch):
        """Setting the option costs 4 us for each read."""
        calls = []
        monkeypatch.setattr(byte_stream.ByteStream, "acknowledge_at_once", lambda stream: calls.append(stream))
        if generation == "0.2":

            def script(peer: Peer) -> None:
                peer.authenticate()
                peer.respond(peer.receive(), "Pong")
                peer.launch()
                peer.event(1, "done")
                wait_for_close(peer)

            with scripted_server(script) as uri, connect(uri) as client:
                client.authenticate("alice")
                client.ping()
                assert not calls  # nothing is sent in two writes yet
                client.launch_instance_from_registry("short").wait(20)
                assert calls
        else:
            end = {"type": "process_event", "process_id": "p", "event": "return", "value": "done"}
            with old_process_server(lambda _: [(True, "p"), end]) as server, connect(server.uri) as client:
                client.authenticate("alice")
                client.launch_instance_from_registry("short@1.0.0").wait(20)
                client.ping()
                assert not calls
