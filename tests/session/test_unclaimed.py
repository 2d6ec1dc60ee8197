"""Instances whose launch was answered when nobody waited for it any more."""

from __future__ import annotations

import threading

import pytest

from pie_sync import Event, PieTimeoutError
from pie_sync._session import unclaimed
from pie_sync._session.event_queue import EventQueue
from pie_sync._session.unclaimed import UnclaimedInstances
from tests.scripted import Peer, connect, scripted_server, wait_for_close

MIB = 1024 * 1024


def queue_of(size: int) -> EventQueue:
    events = EventQueue()
    events.put_batch([(Event.Message, "x" * size)])
    return events


def test_each_is_claimed_once():
    instances = UnclaimedInstances()
    events = queue_of(1)
    instances.add("one", events)
    instances.end("one")
    assert instances.events_queued() == {"one": 1}
    assert instances.claim("one") is events
    assert instances.claim("one") is None
    assert instances._ended_bytes == 0


def test_of_those_that_have_ended_the_latest_stay(monkeypatch, caplog):
    monkeypatch.setattr(unclaimed, "_MAX_ENDED_BYTES", 4 * MIB)
    instances = UnclaimedInstances()
    for number in range(10):
        instances.add(f"running {number}", queue_of(MIB))
    for number in range(10):
        instances.add(str(number), queue_of(MIB))
        instances.end(str(number))
        instances.end(str(number))
    running = {f"running {number}": 1 for number in range(10)}
    assert instances.events_queued() == {**running, "7": 1, "8": 1, "9": 1}
    assert caplog.text.count("its events are dropped") == 7
    assert instances._ended_bytes <= 4 * MIB


def test_the_last_one_stays_however_large_it_is(monkeypatch):
    monkeypatch.setattr(unclaimed, "_MAX_ENDED_BYTES", MIB)
    instances = UnclaimedInstances()
    for number in range(3):
        instances.add(str(number), queue_of(2 * MIB))
        instances.end(str(number))
    assert list(instances.events_queued()) == ["2"]


def test_what_did_not_survive_a_reconnection_has_ended():
    instances = UnclaimedInstances()
    for number in range(3):
        instances.add(str(number), queue_of(1))
    instances.end_all_but({"1"})
    assert list(instances._ended) == ["0", "2"]


def test_late_launches_are_seen_and_bounded(monkeypatch):
    """They are shown by stats(), can be claimed, and those that have ended do not fill the memory."""
    monkeypatch.setattr(unclaimed, "_MAX_ENDED_BYTES", 4 * MIB)
    may_answer = threading.Event()
    total = 20

    def script(peer: Peer) -> None:
        peer.authenticate()
        requests = [peer.receive() for _ in range(total)]
        assert may_answer.wait(10)
        for number, request in enumerate(requests):
            answer = {"type": "instance_launch_result", "corr_id": request["corr_id"], "successful": True}
            peer.send(**answer, message=str(number))
            peer.event(0, "x" * (MIB // 2), str(number))
            if number > 0:
                peer.event(1, "done", str(number))
        peer.respond(peer.receive(), "Pong")
        wait_for_close(peer)

    with scripted_server(script) as uri, connect(uri) as client:
        client.authenticate("alice")
        for _ in range(total):
            with pytest.raises(PieTimeoutError, match="no answer"):
                client.launch_instance_from_registry("x", timeout=0.01)
        assert client.stats().unclaimed == {}
        may_answer.set()
        client.ping()
        assert client.stats().unclaimed == {"0": 1, **{str(number): 2 for number in range(total - 7, total)}}
        last = client.attach_instance(str(total - 1))
        assert last.wait(10).messages == ("x" * (MIB // 2),)
        running = client.attach_instance("0")
        assert running.recv(10) == (Event.Message, "x" * (MIB // 2))
        assert set(client.stats().unclaimed) == set(map(str, range(total - 7, total - 1)))


def test_a_launch_that_is_answered_in_time_does_not_depend_on_the_limit(monkeypatch):
    """Many threads launch, and before they wake up all that they launched has ended."""
    monkeypatch.setattr(unclaimed, "_MAX_ENDED_BYTES", 1)
    total = 50

    def script(peer: Peer) -> None:
        peer.authenticate()
        requests = [peer.receive() for _ in range(total)]
        for number, request in enumerate(requests):
            peer.event(0, "early", str(number))
            peer.event(1, "done", str(number))
            answer = {"type": "instance_launch_result", "corr_id": request["corr_id"], "successful": True}
            peer.send(**answer, message=str(number))
        wait_for_close(peer)

    with scripted_server(script) as uri, connect(uri) as client:
        client.authenticate("alice")
        results = []

        def launch():
            results.append(client.launch_instance_from_registry("x").wait(10).messages)

        threads = [threading.Thread(target=launch) for _ in range(total)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [("early",)] * total
        assert client.stats().unclaimed == {}
