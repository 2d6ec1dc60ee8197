"""Uploads that the server refuses, or does not read, or that are given up."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest

from pie_sync import PieTimeoutError, UploadError
from tests.programs import no_component
from tests.scripted import Peer, connect, scripted_server, wait_for_close


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
                client.upload_program(no_component(400 * 256 * 1024))
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
                client.upload_program(no_component(5 * 256 * 1024), progress=give_up)
            client.upload_program(b"\0asm")
            client.upload_program(b"\0asm")
            client.ping()

        self.run(script, use)
        assert seen == [(0, 5, 262144), (1, 5, 262144), (5, 5, 0), (0, 1, 4), (0, 1, 4)]

    def test_a_blob_given_up_is_kept_nowhere_and_can_be_sent_again(self):
        """Neither its bytes nor its instance. The server is told at once to forget the rest."""
        seen = []

        def script(peer):
            peer.launch()
            while True:
                request = peer.receive()
                if request["type"] == "ping":
                    break
                seen.append((request["type"], request["chunk_index"], request["total_chunks"]))
            peer.respond(request, "Pong")
            while request.get("chunk_index") != 4:
                request = peer.receive()
            peer.respond(request)

        class Data(bytearray):
            """Bytes that a weak reference can be had of."""

        def give_up(sent, total):
            if sent >= 2 * 256 * 1024:
                raise RuntimeError("enough")

        def use(client):
            instance = client.launch_instance_from_registry("x")
            data = Data(5 * 256 * 1024)
            references = weakref.ref(data), weakref.ref(instance)
            with pytest.raises(RuntimeError, match="enough"):
                instance.upload_blob(data, progress=give_up)
            client.ping()
            instance.upload_blob(data)
            del data, instance
            gc.collect()
            assert [reference() for reference in references] == [None, None]
            assert client.stats().pending_requests == 0
            assert not client._manager.connection.session.uploads._slots

        self.run(script, use)
        assert seen == [("upload_blob", 0, 5), ("upload_blob", 1, 5), ("upload_blob", 5, 5)]

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
            client.upload_program(no_component(4 * 256 * 1024), progress=slowly)
            assert time.monotonic() - begin > 1
            with pytest.raises(PieTimeoutError, match="no progress for 1 s: all bytes sent, but not confirmed"):
                client.upload_program(b"\0asm")
            with pytest.raises(PieTimeoutError, match=r"upload_program: .* within 0\.6 s"):
                client.upload_program(no_component(4 * 256 * 1024), progress=slowly, timeout=0.6)

        self.run(script, use, timeout=1)

    @pytest.mark.parametrize("timeout", [{}, {"timeout": 600}, {"timeout": None}])
    def test_a_server_that_locks_up_in_a_blob(self, timeout):
        """Every real server up to 0.2: WebSocket pings are answered, requests never again."""

        def script(peer):
            peer.launch()
            while True:  # the blob and the pings: nothing is answered
                peer.receive()

        def use(client):
            instance = client.launch_instance_from_registry("blobs")
            begin = time.monotonic()
            with pytest.raises(
                PieTimeoutError, match="no progress for 1 s: all bytes sent, but not conf"
            ) as expired:
                instance.upload_blob(bytes(3 * 256 * 1024), **timeout)
            assert 0.9 < time.monotonic() - begin < 20
            for part in ("servers up to Pie 0.2 lock up", "the program has the blob", "open a new connection"):
                assert part in str(expired.value)
            with pytest.raises(PieTimeoutError, match="upload_blob has locked up this connection"):
                client.ping(timeout=0.1)

        self.run(script, use, timeout=1)

    def test_the_limit_for_the_confirmation_counts_from_the_last_chunk(self):
        """A blob whose chunks take longer than the limit in all is no lock-up."""
        chunks = 5

        def script(peer):
            peer.launch()
            for _ in range(chunks):
                request = peer.receive()
            peer.respond(request, "Blob sent to instance")

        def use(client):
            instance = client.launch_instance_from_registry("blobs")
            instance.upload_blob(bytes(chunks * 256 * 1024), progress=lambda sent, total: time.sleep(0.5))

        self.run(script, use, timeout=2)

    def test_a_server_that_does_not_read(self):
        """The time limit holds also while the TCP window is full."""
        stop = threading.Event()

        def script(peer):
            assert stop.wait(30)

        def use(client):
            begin = time.monotonic()
            with pytest.raises(PieTimeoutError):
                client.upload_program(no_component(200 * 1024 * 1024), timeout=1)
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
