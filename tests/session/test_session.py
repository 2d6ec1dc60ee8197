"""What the client makes of servers that do wrong, or that do right in an inconvenient order."""

from __future__ import annotations

import base64
import logging
import threading
import time

import msgpack
import pytest
from blake3 import blake3

from pie_sync import (
    AuthenticationError,
    Event,
    InstanceEnded,
    LaunchError,
    PieConnectionError,
    PieConnectTimeoutError,
    PieError,
    PieTimeoutError,
    ProtocolError,
    UploadError,
)
from pie_sync import PieClient as Client
from pie_sync._session.router import Router
from tests.scripted import Peer, scripted_server, wait_for_close


def connect(uri: str, **options) -> Client:
    client = Client(uri, timeout=options.pop("timeout", 10), **options)
    client.connect()
    return client


class TestAuthentication:
    @pytest.mark.parametrize("kind", ["response", "challenge"])
    @pytest.mark.parametrize("size", [0, 1, 15, 65, 130, 10_000])
    def test_challenges_of_other_lengths_are_not_signed(self, kind, size, private_key):
        told = []

        def script(peer: Peer) -> None:
            request = peer.receive()
            challenge = base64.b64encode(b"x" * size).decode()
            if kind == "challenge":
                peer.send(type="challenge", corr_id=request["corr_id"], challenge=challenge)
            else:
                peer.respond(request, challenge)
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            with pytest.raises(ProtocolError, match=f"{size} bytes; nothing was signed") as caught:
                client.authenticate("alice", private_key)
            told.append(caught.value)
            with pytest.raises(AuthenticationError, match="authenticate first"):
                client.ping()
        assert told

    @pytest.mark.parametrize("size", [16, 48, 64])
    def test_challenges_of_these_lengths_are_signed_raw(self, size, private_key, key_file):
        from cryptography.hazmat.primitives.serialization import load_ssh_public_key

        challenge = bytes(range(size))
        signatures = []

        def script(peer: Peer) -> None:
            peer.respond(peer.receive(), base64.b64encode(challenge).decode())
            request = peer.receive()
            signatures.append(base64.b64decode(request["signature"]))
            peer.respond(request, "Authenticated")
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            client.authenticate("alice", private_key)
        public_key = load_ssh_public_key(key_file.with_suffix(".pub").read_bytes())
        public_key.verify(signatures[0], challenge)

    def test_a_challenge_that_is_not_base64(self, private_key):
        def script(peer: Peer) -> None:
            peer.respond(peer.receive(), "not base64!")
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            with pytest.raises(ProtocolError, match="not base64; nothing was signed"):
                client.authenticate("alice", private_key)

    def test_already_authenticated(self, private_key):
        def script(peer: Peer) -> None:
            peer.respond(peer.receive(), "Already authenticated")
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            with pytest.raises(AuthenticationError, match="authenticated already"):
                client.authenticate("alice", private_key)

    def test_the_time_limit_is_for_both_steps_together(self, private_key):
        def script(peer: Peer) -> None:
            peer.respond(peer.receive(), base64.b64encode(b"x" * 48).decode())
            peer.receive()
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            begin = time.monotonic()
            with pytest.raises(PieTimeoutError):
                client.authenticate("alice", private_key, timeout=0.5)
            assert 0.4 < time.monotonic() - begin < 5


class TestAnswers:
    def run(self, script, use, **options):
        def whole_script(peer: Peer) -> None:
            peer.authenticate()
            script(peer)
            wait_for_close(peer)

        with scripted_server(whole_script) as uri, connect(uri, **options) as client:
            client.authenticate("alice")
            return use(client)

    def test_to_nobody_and_twice(self):
        def script(peer):
            peer.respond({"corr_id": 12345}, "to nobody")
            peer.respond({"corr_id": -1}, "to nobody")
            peer.respond({"corr_id": 2**70 % 2**63}, "to nobody")
            request = peer.receive()
            peer.respond(request, "first")
            peer.respond(request, "second")
            peer.respond(peer.receive(), "third")

        def use(client):
            return client.query("a", ""), client.query("b", "")

        assert self.run(script, use) == ((True, "first"), (True, "third"))

    def test_of_the_wrong_kind(self):
        def script(peer):
            request = peer.receive()
            peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message="x")
            peer.respond(peer.receive(), "Pong")

        def use(client):
            with pytest.raises(ProtocolError, match="ping: .*instance_launch_result"):
                client.ping()
            client.ping()

        self.run(script, use)

    @pytest.mark.parametrize("length", [1000, 1001, 1_000_000])
    def test_of_a_launch_with_a_very_long_id(self, length):
        """Ids are kept, also of instances that nobody knows yet, and are in every error: so there's a limit."""

        def script(peer):
            request = peer.receive()
            peer.event(0, "early", "x" * length)
            answer = {"type": "instance_launch_result", "corr_id": request["corr_id"], "successful": True}
            peer.send(**answer, message="x" * length)
            peer.event(0, "later", "x" * length)
            peer.respond(peer.receive(), "Pong")

        def use(client):
            if length == 1000:
                instance = client.launch_instance_from_registry("x")
                assert [instance.recv(10), instance.recv(10)] == [
                    (Event.Message, "early"),
                    (Event.Message, "later"),
                ]
            else:
                with pytest.raises(ProtocolError, match=f"an instance id of {length} characters"):
                    client.launch_instance_from_registry("x")
            client.ping()

        self.run(script, use)

    def test_a_defect_in_the_reader_thread_is_told(self, monkeypatch):
        def script(peer):
            peer.launch("i1")
            wait_for_close(peer)

        def use(client):
            monkeypatch.setattr(Router, "add_instance", lambda self, instance_id, events=None: {}[instance_id])
            with pytest.raises(PieConnectionError, match="the reader thread failed: KeyError"):
                client.launch_instance_from_registry("x")
            assert client.closed

        self.run(script, use)

    def test_that_make_no_sense_reach_their_request(self):
        def script(peer):
            request = peer.receive()
            peer.send(type="response", corr_id=request["corr_id"], successful="yes", result=5)
            request = peer.receive()
            peer.send(type="novelty", corr_id=request["corr_id"])
            peer.respond(peer.receive(), "Pong")

        def use(client):
            with pytest.raises(ProtocolError, match="'response' message with a missing or wrong field"):
                client.ping()
            with pytest.raises(ProtocolError, match="unknown type 'novelty'"):
                client.ping()
            client.ping()

        self.run(script, use)

    def test_a_plain_response_may_refuse_anything(self):
        def script(peer):
            peer.respond(peer.receive(), "out of order", successful=False)

        def use(client):
            with pytest.raises(LaunchError, match="launch_instance_from_registry failed: out of order"):
                client.launch_instance_from_registry("x")

        self.run(script, use)

    def test_garbage_is_logged_and_ignored(self, caplog):
        def script(peer):
            peer.send_raw(b"\xc1")
            peer.send_raw(b"")
            peer.send_raw("text")
            peer.send(type="instance_event", instance_id="nobody's", event=0, message="lost")
            peer.send(type="instance_event", instance_id=["a", "list"], event=0, message="lost")
            peer.send(type="instance_event", instance_id="nobody's", event=77, message="lost")
            peer.send(type="server_event", message="hello everybody")
            peer.respond(peer.receive(), "Pong")

        with caplog.at_level(logging.DEBUG, "pie_sync"):
            self.run(script, lambda client: client.ping())
        assert "not MessagePack" in caplog.text
        assert "(as text) text" in caplog.text
        assert "hello everybody" in caplog.text
        assert "lost" not in caplog.text, "what a message contains is nobody's business"

    def test_the_same_instance_id_twice_does_not_take_the_first_ones_events(self):
        def script(peer):
            peer.launch("same")
            peer.launch("same")
            peer.event(0, "for the first", "same")

        def use(client):
            first = client.launch_instance_from_registry("x")
            with pytest.raises(ProtocolError, match="twice"):
                client.launch_instance_from_registry("x")
            assert first.recv(timeout=10) == (Event.Message, "for the first")

        self.run(script, use)

    def test_a_launch_answered_too_late_can_be_taken_over_with_its_events(self):
        may_answer = threading.Event()

        def script(peer):
            request = peer.receive()
            assert may_answer.wait(10)
            peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message="late")
            peer.event(0, "still here", "late")
            peer.respond(peer.receive(), "Pong")

        def use(client):
            with pytest.raises(PieTimeoutError, match="launch_instance_from_registry: no answer"):
                client.launch_instance_from_registry("x", timeout=0.1)
            may_answer.set()
            client.ping()
            instance = client.attach_instance("late")
            assert instance.recv(timeout=10) == (Event.Message, "still here")

        self.run(script, use)


class TestInstances:
    def run(self, script, use, **options):
        def whole_script(peer: Peer) -> None:
            peer.authenticate()
            peer.launch()
            script(peer)

        with scripted_server(whole_script) as uri, connect(uri, **options) as client:
            client.authenticate("alice")
            self.client = client
            return use(client.launch_instance_from_registry("x"))

    def test_senseless_events_are_errors_in_their_place(self):
        def script(peer):
            peer.event(0, "before")
            peer.event(42, "what is 42?")
            peer.send(type="streaming_output", instance_id="instance-1", output={"Stdin": "?"})
            peer.event(0, "after")
            peer.event(1, "")
            wait_for_close(peer)

        def use(instance):
            assert instance.recv(10) == (Event.Message, "before")
            with pytest.raises(ProtocolError, match="'instance_event'"):
                instance.recv(10)
            with pytest.raises(ProtocolError, match="'streaming_output'"):
                instance.recv(10)
            assert list(instance) == [(Event.Message, "after"), (Event.Completed, "")]

        self.run(script, use)

    def test_events_after_the_end_are_nobodys(self):
        def script(peer):
            peer.event(1, "done")
            peer.event(0, "too late")
            peer.respond(peer.receive(), "Pong")
            wait_for_close(peer)

        def use(instance):
            assert instance.recv(10) == (Event.Completed, "done")
            self.client.ping()
            with pytest.raises(InstanceEnded, match="Completed: done"):
                instance.recv(10)

        self.run(script, use)

    def test_bad_blobs_are_errors_in_their_place(self):
        blob = b"0123456789"
        good = blake3(blob).hexdigest()

        def chunk(index, total, data, blob_hash=good):
            return {
                "type": "download_blob",
                "corr_id": 0,
                "instance_id": "instance-1",
                "blob_hash": blob_hash,
                "chunk_index": index,
                "total_chunks": total,
                "chunk_data": data,
            }

        def script(peer):
            for message in [
                chunk(0, 2, blob[:5]),
                chunk(1, 2, b"wrong"),
                chunk(1, 3, b"of an unknown blob", "ab" * 32),
                chunk(2, 3, b"of an unknown blob", "ab" * 32),
                chunk(0, 1, b"x" * 2000, "cd" * 32),
                chunk(0, 2, blob[:5]),
                chunk(1, 2, blob[5:]),
            ]:
                peer.send(**message)
            peer.event(1, "")
            wait_for_close(peer)

        def use(instance):
            for reason in ("do not match", "chunk 1 of 3, expected 0", "max_blob_size=1000"):
                with pytest.raises(ProtocolError, match=reason):
                    instance.recv(10)
            assert list(instance) == [(Event.Blob, blob), (Event.Completed, "")]

        self.run(script, use, max_blob_size=1000)

    @pytest.mark.parametrize("how", ["close frame", "no close frame", "bad frame", "text that is not UTF-8"])
    def test_a_lost_connection_comes_after_everything_that_arrived(self, how):
        def script(peer):
            for number in range(1000):
                peer.event(0, str(number))
            if how == "close frame":
                peer.connection.close(1001, "going home")
            elif how == "bad frame":
                peer.connection.socket.sendall(b"\xf2\x00")
            elif how == "text that is not UTF-8":
                peer.connection.socket.sendall(b"\x81\x01\xff")
            else:
                peer.connection.socket.shutdown(2)

        reasons = {
            "close frame": "the server closed the connection: 1001 going home",
            "no close frame": "without a close frame|connection is lost",
            "bad frame": "reserved bits",
            "text that is not UTF-8": "not UTF-8",
        }

        def use(instance):
            received = []
            with pytest.raises(PieConnectionError, match=reasons[how]) as caught:
                for event in instance:
                    received.append(event)
            assert received == [(Event.Message, str(number)) for number in range(1000)]
            assert not isinstance(caught.value, PieError)
            assert not instance.finished
            with pytest.raises(PieConnectionError, match=reasons[how]):
                instance.recv()
            with pytest.raises(PieConnectionError, match=reasons[how]):
                instance.wait()
            with pytest.raises(PieConnectionError, match=reasons[how]):
                instance.send("hello?")
            assert self.client.closed

        self.run(script, use)

    def test_every_waiting_call_ends_when_the_connection_is_lost(self):
        go = threading.Event()

        def script(peer):
            for _ in range(5):
                peer.receive()
            assert go.wait(10)
            peer.connection.socket.shutdown(2)

        def use(instance):
            client = self.client
            outcomes = []
            calls = [
                instance.recv,
                instance.wait,
                client.ping,
                client.list_instances,
                lambda: client.query("a", "b"),
                lambda: client.launch_instance_from_registry("x"),
                lambda: client.upload_program(b"program"),
            ]

            def run(call):
                try:
                    call()
                except PieConnectionError as error:
                    outcomes.append(error)

            threads = [threading.Thread(target=run, args=(call,)) for call in calls]
            for thread in threads:
                thread.start()
            go.set()
            begin = time.monotonic()
            for thread in threads:
                thread.join(10)
            assert time.monotonic() - begin < 5
            assert len(outcomes) == len(calls)
            assert len({id(outcome) for outcome in outcomes}) == len(calls), "an exception of its own for each"

        self.run(script, use, timeout=60)


class TestUploads:
    def run(self, script, use, **options):
        def whole_script(peer: Peer) -> None:
            peer.authenticate()
            script(peer)
            wait_for_close(peer)

        with scripted_server(whole_script, max_size=None) as uri, connect(uri, **options) as client:
            client.authenticate("alice")
            return use(client)

    def test_sending_stops_at_the_first_refusal(self):
        seen = []

        def script(peer):
            request = peer.receive()
            peer.respond(request, "I don't like it", successful=False)
            while request["type"] == "upload_program":
                seen.append(request["chunk_index"])
                request = peer.receive()
                if request["type"] == "upload_program":
                    peer.respond(request, "still not", successful=False)
            peer.respond(request, "Pong")

        def use(client):
            with pytest.raises(UploadError, match="upload_program failed: I don't like it"):
                client.upload_program(bytes(400 * 256 * 1024))
            client.ping()

        self.run(script, use)
        assert len(seen) < 400

    def test_an_upload_given_up_half_way_does_not_break_the_next(self):
        seen = []

        def script(peer):
            while True:
                request = peer.receive()
                if request["type"] == "ping":
                    peer.respond(request, "Pong")
                    return
                seen.append((request["chunk_index"], request["total_chunks"], len(request["chunk_data"])))
                if request["chunk_index"] == request["total_chunks"]:
                    peer.respond(request, "Out-of-order chunk", successful=False)
                elif request["chunk_index"] == request["total_chunks"] - 1:
                    peer.respond(request, request["program_hash"])

        def give_up(sent, total):
            if sent >= 2 * 256 * 1024:
                raise RuntimeError("enough")

        def use(client):
            with pytest.raises(RuntimeError, match="enough"):
                client.upload_program(bytes(5 * 256 * 1024), progress=give_up)
            client.upload_program(b"small")
            client.upload_program(b"small")
            client.ping()

        self.run(script, use)
        assert seen == [(0, 5, 262144), (1, 5, 262144), (5, 5, 0), (0, 1, 5), (0, 1, 5)]

    def test_the_default_limit_is_for_the_time_without_progress(self):
        def script(peer):
            for _ in range(4):
                request = peer.receive()
            peer.respond(request, "ok")

        pauses = []

        def slowly(sent, total):
            if sent < total:
                pauses.append(threading.Event().wait(0.4))

        def use(client):
            begin = time.monotonic()
            client.upload_program(bytes(4 * 256 * 1024), progress=slowly)
            assert time.monotonic() - begin > 1
            with pytest.raises(PieTimeoutError, match="no progress for 1 s: all bytes sent, but not confirmed"):
                client.upload_program(b"x")
            with pytest.raises(PieTimeoutError, match=r"upload_program: .* within 0\.6 s"):
                client.upload_program(bytes(4 * 256 * 1024), progress=slowly, timeout=0.6)

        self.run(script, use, timeout=1)

    def test_a_server_that_does_not_read(self):
        """The time limit holds also while the TCP window is full."""
        stop = threading.Event()

        def script(peer):
            assert stop.wait(30)

        def use(client):
            begin = time.monotonic()
            with pytest.raises(PieTimeoutError):
                client.upload_program(bytes(200 * 1024 * 1024), timeout=1)
            assert 0.9 < time.monotonic() - begin < 5
            begin = time.monotonic()
            client.close()
            assert time.monotonic() - begin < 2.5
            stop.set()

        # max_queue: stop reading the socket once so many messages wait.
        def whole_script(peer: Peer) -> None:
            peer.authenticate()
            script(peer)

        with scripted_server(whole_script, max_queue=1, close_timeout=0.1) as uri, connect(uri) as client:
            client.authenticate("alice")
            use(client)


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


def test_correlation_ids_wrap_before_2_to_the_32(monkeypatch):
    seen = []

    def script(peer: Peer) -> None:
        peer.authenticate()
        for _ in range(3):
            request = peer.receive()
            seen.append(request["corr_id"])
            peer.respond(request, "Pong")
        wait_for_close(peer)

    with scripted_server(script) as uri, connect(uri) as client:
        client.authenticate("alice")
        client._manager.connection.session.router.pending._next_id = 2**32 - 1
        for _ in range(3):
            client.ping()
    assert seen == [2**32 - 1, 0, 1]
    assert all(msgpack.packb(number) for number in seen)
