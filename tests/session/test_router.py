"""Answers and events of servers that do wrong, or that do right in an inconvenient order."""

from __future__ import annotations

import logging
import threading
import time

import msgpack
import pytest
from blake3 import blake3

from pie_sync import (
    Event,
    InstanceEnded,
    LaunchError,
    PieConnectionError,
    PieError,
    PieTimeoutError,
    ProtocolError,
)
from pie_sync._protocol import PROTOCOLS
from pie_sync._session.memory_limit import MemoryLimit
from pie_sync._session.router import Router
from tests.scripted import Peer, connect, scripted_server, wait_for_close


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

    def test_of_a_launch_without_memory_for_its_queue(self, monkeypatch):
        def no_memory(self, instance_id, events=None):
            raise MemoryError

        def script(peer):
            peer.launch("i1")
            peer.respond(peer.receive(), "Pong")

        def use(client):
            with monkeypatch.context() as patch:
                patch.setattr(Router, "add_instance", no_memory)
                with pytest.raises(ProtocolError, match="launch_instance_from_registry: there is no memory"):
                    client.launch_instance_from_registry("x")
            client.ping()

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
                lambda: client.upload_program(b"\0asm"),
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


class TestForgotten:
    """Instances that nobody holds any more, though they go on talking."""

    def run(self, script, use, **options):
        def whole_script(peer: Peer) -> None:
            peer.authenticate()
            peer.launch("forgotten")
            script(peer)
            wait_for_close(peer)

        with scripted_server(whole_script) as uri, connect(uri, **options) as client:
            client.authenticate("alice")
            client.launch_instance_from_registry("x")  # and nobody holds it
            return use(client, client._manager.connection.session.router)

    def test_their_events_take_no_room_while_a_launch_is_unanswered(self):
        def script(peer):
            request = peer.receive()
            for _ in range(20):
                peer.event(0, "x" * 1024 * 1024, "forgotten")
            peer.event(0, "early", "i2")
            peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message="i2")
            peer.event(1, "done", "i2")

        def use(client, router):
            instance = client.launch_instance_from_registry("x")
            assert list(instance.events(10)) == [(Event.Message, "early"), (Event.Completed, "done")]

        self.run(script, use)

    def test_until_they_end_or_are_attached_to(self):
        def script(peer):
            request = peer.receive()
            peer.event(1, "", "forgotten")
            peer.send(type="response", corr_id=request["corr_id"], successful=True, result="Pong")
            peer.launch("forgotten")
            request = peer.receive()
            peer.event(0, "early", "forgotten")
            peer.send(type="instance_attach_result", corr_id=request["corr_id"], successful=True, message="")

        def use(client, router):
            assert list(router._forgotten) == ["forgotten"]
            client.ping()
            assert not router._forgotten
            client.launch_instance_from_registry("x")
            assert list(router._forgotten) == ["forgotten"]
            instance = client.attach_instance("forgotten")
            assert instance.recv(10) == (Event.Message, "early")

        self.run(script, use)

    def test_their_number_is_bounded(self, monkeypatch):
        monkeypatch.setattr("pie_sync._session.router._MAX_FORGOTTEN", 3)

        def script(peer):
            for number in range(5):
                peer.launch(str(number))

        def use(client, router):
            for _ in range(5):
                client.launch_instance_from_registry("x")
            assert list(router._forgotten) == ["forgotten", "0", "1"]

        self.run(script, use)


class TestEarly:
    def test_an_instance_whose_end_may_be_lost_does_not_wait_for_ever(self, monkeypatch):
        monkeypatch.setattr("pie_sync._session.early_events._LIMIT", 2000)
        terminated = []

        def script(peer):
            peer.authenticate()
            for launches in range(2):
                request = peer.receive()
                for number in range(10):
                    peer.event(0, "hello", f"{launches} unknown {number}")
                peer.event(1, "done", f"i{launches}")
                answer = {"type": "instance_launch_result", "corr_id": request["corr_id"], "successful": True}
                peer.send(**answer, message=f"i{launches}")
            request = peer.receive()
            terminated.append((request["type"], request["instance_id"]))
            peer.respond(request)
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            client.authenticate("alice")
            instance = client.launch_instance_from_registry("x")
            for _ in range(2):
                with pytest.raises(ProtocolError, match="i0: too many instances sent events .* even its end"):
                    instance.recv(10)
            with pytest.raises(ProtocolError, match="even its end"):
                client.run("x", timeout=10)
        assert terminated == [("terminate_instance", "i1")]


class TestWhatIsExpected:
    """Which messages the router knows by their beginnings: they go to their queue without a look at their id."""

    @staticmethod
    def router():
        router = Router(max_blob_size=1024, memory=MemoryLimit(1024))
        router.protocol = PROTOCOLS["instance"]
        return router

    @staticmethod
    def expect(router, instance_id):
        """Have the router expect an instance, as at the end of what one read brought."""
        events = router.add_instance(instance_id)
        router.dispatch([])
        return events

    @staticmethod
    def message(text, instance_id):
        return msgpack.packb({"type": "instance_event", "instance_id": instance_id, "event": 0, "message": text})

    def test_the_messages_of_an_instance_that_runs(self):
        router = self.router()
        events = self.expect(router, "i1")
        assert list(router._prefixes._known.values()) == [events]
        router.dispatch([self.message("text", "i1")])
        assert events.get(timeout=10) == (Event.Message, "text")

    def test_none_of_an_instance_that_ended_in_the_same_read(self):
        router = self.router()
        events = router.add_instance("i1")
        end = {"type": "instance_event", "instance_id": "i1", "event": 1, "message": "x"}
        router.dispatch([msgpack.packb(end)])
        assert events.terminal == (Event.Completed, "x")
        assert router._prefixes._known == {}

    @pytest.mark.parametrize("when", ["before", "behind"])
    def test_none_of_an_instance_that_a_finalizer_forgets_at_that_moment(self, monkeypatch, when):
        router = self.router()
        expect = router._prefixes.expect

        def forgotten_meanwhile(instance_id, events):
            if when == "behind":
                expect(instance_id, events)
            router.forget(instance_id, events)
            if when == "before":
                expect(instance_id, events)

        monkeypatch.setattr(router._prefixes, "expect", forgotten_meanwhile)
        self.expect(router, "i1")
        assert router._prefixes._known == {}

    def test_a_new_queue_for_an_id_gets_its_messages_while_the_old_one_is_being_forgotten(self, monkeypatch):
        router = self.router()
        old = self.expect(router, "i1")
        new = []

        class Queues(dict):
            def pop(self, *args):
                queue = super().pop(*args)
                if not new:  # another thread attaches to the instance right behind that
                    new.append(router.add_instance("i1"))
                    router.dispatch([TestWhatIsExpected.message("to the new one", "i1")])
                return queue

        monkeypatch.setattr(router, "_queues", Queues(router._queues))
        router.forget("i1", old)
        assert old.empty()
        assert new[0].get(timeout=10) == (Event.Message, "to the new one")
        router.dispatch([self.message("later", "i1")])
        assert new[0].get(timeout=10) == (Event.Message, "later")
