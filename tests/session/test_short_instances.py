"""Instances whose answer and end come in one read: they get no queue, and nothing else is different."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, combinations
from typing import Any

import msgpack
import pytest
from blake3 import blake3

from pie_sync import Event, InstanceFailed, LaunchError, PieClient, ProtocolError
from pie_sync._runs.launch import Launch
from pie_sync._runs.launcher import Launcher
from pie_sync._runs.program_reference import ProgramReference
from pie_sync._session.memory_limit import MemoryLimit
from pie_sync._session.router import Router
from pie_sync._support.signal_safe_queue import SignalSafeQueue
from pie_sync._support.time_limits import TimeLimit
from tests.scripted import Peer, connect, scripted_server, wait_for_close

Message = dict[str, Any]

DATA = b"of a blob"


def answer(number: int = 1, **fields: Any) -> Message:
    """The answer to a launch; the number is replaced by the correlation id of the launch of that number."""
    return {
        "type": "instance_launch_result",
        "corr_id": number,
        "successful": True,
        "message": f"i{number}",
        **fields,
    }


def event(kind: int, text: str, number: int = 1) -> Message:
    return {"type": "instance_event", "instance_id": f"i{number}", "event": kind, "message": text}


def end(text: str = "done", number: int = 1) -> Message:
    return event(1, text, number)


def chunk(number: int = 1) -> Message:
    return {
        "type": "download_blob",
        "corr_id": 0,
        "instance_id": f"i{number}",
        "blob_hash": blake3(DATA).hexdigest(),
        "chunk_index": 0,
        "total_chunks": 1,
        "chunk_data": DATA,
    }


SENSELESS = {"type": "instance_event", "instance_id": "i1", "event": 99, "message": "?"}

#: What a server sends of up to two launches, in order.
SEQUENCES: dict[str, list[Message]] = {
    "an end": [answer(), end()],
    "a failure": [answer(), event(3, "trap")],
    "events": [answer(), event(0, "one"), event(0, "two"), end()],
    "a long event": [answer(), event(0, "x" * 1001), end()],
    "a long end": [answer(), event(0, "one"), end("x" * 1001)],
    "a blob": [answer(), event(0, "one"), chunk(), event(0, "two"), end()],
    "a blob alone": [answer(), chunk(), end()],
    "something senseless": [answer(), event(0, "one"), SENSELESS, end()],
    "two": [answer(1), answer(2), event(0, "two", 2), event(0, "one", 1), end("2", 2), end("1", 1)],
    "early events": [event(0, "early", 2), answer(1), end("1", 1), answer(2), end("2", 2)],
    "the end before its answer": [end("2", 2), answer(1), answer(2), end("1", 1)],
    "one id for both": [answer(1), answer(2, message="i1"), end()],
    "one id for both, one behind the other": [answer(1), end(), answer(2, message="i1"), end("again")],
    "a refusal": [answer(1, successful=False, message="no"), answer(2), end("2", 2)],
    "two answers": [answer(1), answer(1, message="i9"), end()],
    "a very long id": [answer(1, message="x" * 1001), answer(2), end("2", 2)],
    "too many events": [answer(), *(event(0, str(number)) for number in range(12)), end()],
}


def reads(messages: list[Message]) -> Iterator[list[list[Message]]]:
    """Divide messages into reads, in every way; if there are too many, in two reads."""
    count = len(messages)
    cuts = [range(1, count)] if count > 8 else []
    for number in range(2 if count > 8 else count):
        cuts.extend(combinations(range(1, count), number))  # type: ignore[arg-type]
    for cut in cuts:
        yield [messages[begin:stop] for begin, stop in zip(chain([0], cut), chain(cut, [count]))]


@contextmanager
def idle_client() -> Iterator[tuple[PieClient, list[Message]]]:
    """A client of a server that answers nothing but pings, and what the server got besides."""
    received: list[Message] = []

    def script(peer: Peer) -> None:
        peer.authenticate()
        while True:
            request = peer.receive(60)
            if request["type"] == "ping":
                peer.respond(request, "Pong")
            else:
                received.append(request)

    with scripted_server(script) as uri, connect(uri) as client:
        client.authenticate("alice")
        yield client, received


def outcome(launch: Launch) -> Any:
    try:
        launch.check()
        completed = launch.collect([])
    except (LaunchError, ProtocolError) as error:
        return type(error), str(error)
    blobs = [bytes(blob) for blob in completed.blobs]
    return completed.id, completed.event, completed.message, completed.messages, blobs


class TestHoweverTheyAreRead:
    @pytest.mark.parametrize("name", SEQUENCES)
    def test_the_outcome_is_the_same(self, name):
        messages = SEQUENCES[name]
        with idle_client() as (client, received):
            session = client._manager.connection.session
            launcher = Launcher(client._manager, "map", ProgramReference("any", None), TimeLimit(20))
            outcomes = []
            for parts in reads(messages):
                done: SignalSafeQueue[Launch] = SignalSafeQueue()
                launches = [Launch(launcher, TimeLimit(20), done) for _ in range(2)]
                for launch in launches:
                    session.router.pending.add(launch)
                    launch.mark_as_sent()
                for part in parts:
                    session.router.dispatch([self.packed(message, launches) for message in part])
                settled = [launch for launch in launches if launch.settled]
                assert all(launch.wait(0) for launch in settled)  # it was woken
                handed_over = list(done.get_all(0))
                assert sorted(map(id, handed_over)) == sorted(map(id, settled))  # each once
                outcomes.append([outcome(launch) for launch in settled])
                for launch in launches:
                    launch.give_up()
                assert not session.router._queues
                assert not session.router._postponed
                session.router._forgotten.clear()
                client.ping()  # is answered behind what was posted
                assert received == []  # nothing had to be terminated
        assert len(outcomes) > 1
        assert all(other == outcomes[0] for other in outcomes)
        assert outcomes[0]

    @staticmethod
    def packed(message: Message, launches: list[Launch]) -> bytes:
        if message["type"] == "instance_launch_result":
            message = {**message, "corr_id": launches[message["corr_id"] - 1].corr_ids[0]}
        return msgpack.packb(message)


class TestInOneRead:
    """The same over a real connection, and that there is no queue."""

    @pytest.fixture
    def queues(self, monkeypatch):
        """The ids of the instances that got a queue."""
        ids: list[str] = []
        add_instance = Router.add_instance

        def recorded(self, instance_id, events=None):
            ids.append(instance_id)
            return add_instance(self, instance_id, events)

        monkeypatch.setattr(Router, "add_instance", recorded)
        return ids

    @staticmethod
    def serve(*events: Message):
        """A server that answers launches with these events right behind, in one write."""

        def script(peer: Peer) -> None:
            peer.authenticate()
            number = 0
            while True:
                request = peer.receive(60)
                if request["type"] == "ping":
                    peer.respond(request, "Pong")
                if not request["type"].startswith("launch"):
                    continue
                number += 1
                first = answer(number, corr_id=request["corr_id"])
                peer.send_together(first, *({**event, "instance_id": f"i{number}"} for event in events))

        return scripted_server(script)

    def test_run(self, queues):
        with self.serve(event(0, "one"), end()) as uri, connect(uri) as client:
            client.authenticate("alice")
            completed = client.run("any")
            assert (completed.id, completed.messages, completed.message) == ("i1", ("one",), "done")
            assert 0 <= completed.elapsed < 10
        assert queues == []

    def test_a_failure_of_run(self, queues):
        with self.serve(event(3, "trap")) as uri, connect(uri) as client:
            client.authenticate("alice")
            with pytest.raises(InstanceFailed, match="trap"):
                client.run("any")
            assert client.run("any", check=False).event is Event.Exception
        assert queues == []

    def test_map(self, queues):
        with self.serve(end()) as uri, connect(uri) as client:
            client.authenticate("alice")
            assert [result.message for result in client.map("any", [[]] * 100, concurrency=8)] == ["done"] * 100
            assert client.stats().events_queued == {}
        assert queues == []

    def test_not_for_who_talks_with_the_instance(self, queues):
        with self.serve(event(0, "one"), end()) as uri, connect(uri) as client:
            client.authenticate("alice")
            seen = []
            client.run("any", on_event=lambda *event: seen.append(event))
            assert seen == [(Event.Message, "one"), (Event.Completed, "done")]
            assert client.run("any", input="too late").message == "done"
            assert client.launch_instance_from_registry("any").recv(10) == (Event.Message, "one")
        assert queues == ["i1", "i2", "i3"]

    def test_without_memory_for_a_queue(self, monkeypatch):
        def no_memory(self, instance_id, events=None):
            raise MemoryError

        with self.serve(event(0, "one")) as uri, connect(uri) as client:
            client.authenticate("alice")
            with monkeypatch.context() as patch:
                patch.setattr(Router, "add_instance", no_memory)
                with pytest.raises(ProtocolError, match="run: there is no memory for what"):
                    client.run("any")
            assert client.ping() > 0

    @pytest.mark.parametrize("events", [[event(0, "one")], [event(0, "one"), end("x" * 1001)]])
    def test_without_memory_for_the_events(self, monkeypatch, events):
        """The error comes in their place, and the end behind it."""

        def no_memory(self, queue, items):
            raise MemoryError

        def script(peer: Peer) -> None:
            peer.authenticate()
            request = peer.receive()
            peer.send_together(answer(corr_id=request["corr_id"]), *events)
            peer.respond(peer.receive(), "Pong")
            if len(events) == 1:
                peer.send(**end())
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            client.authenticate("alice")
            launcher = Launcher(client._manager, "map", ProgramReference("any", None), TimeLimit(20))
            launch = Launch(launcher, TimeLimit(20))
            with monkeypatch.context() as patch:
                patch.setattr(MemoryLimit, "put", no_memory)
                launch.send([])
                assert launch.wait(None)
                client.ping()
            with pytest.raises(ProtocolError, match="instance i1: there is no memory for its events"):
                launch.instance.recv(10)
            assert launch.instance.recv(10)[0] is Event.Completed
            launch.drop()

    def test_of_a_launch_that_nobody_waits_for_any_more(self, queues):
        def script(peer: Peer) -> None:
            peer.authenticate()
            launch = peer.receive()
            ping = peer.receive()
            peer.send_together(answer(corr_id=launch["corr_id"]), end())
            peer.respond(ping, "Pong")
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            client.authenticate("alice")
            launcher = Launcher(client._manager, "map", ProgramReference("any", None), TimeLimit(20))
            launch = Launch(launcher, TimeLimit(20))
            launch.send([])
            launch.give_up()
            client.ping()
            assert launch.settled
            assert launch.instance is None
        assert queues == ["i1"]  # an abandoned request's: it is not known to be short
