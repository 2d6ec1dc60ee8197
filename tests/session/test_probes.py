"""Servers lose the ends of instances. Whoever waits for one hears of it, and nobody else pays for that."""

from __future__ import annotations

import json
import time
from queue import Empty
from typing import Any

import pytest

from pie_sync import (
    Event,
    InstanceEnded,
    InstanceFailed,
    PieClient,
    PieTimeoutError,
)
from pie_sync._session import probes
from pie_sync._session.event_queue import EventQueue
from pie_sync._session.probes import Pace, Silence
from pie_sync.testing import LocalServer, ProgramContext
from tests.connection.process import Requests
from tests.lost_ends import QUICK, LostEnds, probe_soon
from tests.programs import echo, sleep_until_told
from tests.scripted import AUTHENTICATED, Peer, connect, scripted_server, wait_for_close

#: Longer than any test takes.
LONG = 30.0

PROBES = {"instance": "attach_instance", "process": "list_processes", "process-0.5": "list_processes"}


# --- when to probe, and what an answer means, with a clock of their own ---------------------------------------


def silence() -> Silence:
    return Silence("an id", EventQueue(), 100.0)


def due_times(one: Silence, until: float) -> list[float]:
    """Return when it is due, if each probe is sent at once."""
    times, now = [], 100.0
    while now < until:
        if one.is_due(now):
            times.append(now)
            one.postpone(now)
        now += 0.5
    return times


def test_the_pauses_become_longer_up_to_half_a_minute():
    assert due_times(silence(), 250) == [101, 102, 104, 108, 116, 132, 162, 192, 222]


def test_whoever_waits_looks_for_the_answer_soon_and_then_rests():
    one = silence()
    assert one.nap(100.0) == 0.25
    assert one.nap(100.4) == pytest.approx(0.6)
    one.postpone(101.0)
    one.postpone(102.0)
    assert one.nap(102.0) == 0.25
    assert one.nap(102.3) == pytest.approx(1.7)
    assert one.nap(110.0) == 0.25  # it was not allowed to ask


def test_events_that_nobody_has_received_yet_are_no_silence():
    one = silence()
    one.postpone(101.0)
    one.postpone(102.0)
    one.events.put((Event.Message, "I am here"))
    assert not one.is_due(110.0)
    assert not one.is_due(110.9)
    assert one.is_due(111.0)
    one.events.spill()
    assert not one.is_due(112.0)


def test_one_answer_proves_nothing():
    one, session = silence(), object()
    assert not one.is_gone(session, 101.0)
    assert one.due == 101.5
    assert not one.is_gone(session, 101.2)
    assert one.is_gone(session, 101.5)


@pytest.mark.parametrize("what", ["it runs", "an event", "an event that was received", "another connection"])
def test_what_comes_in_between_counts(what):
    one, session = silence(), object()
    assert not one.is_gone(session, 101.0)
    if what == "it runs":
        one.runs()
    elif what == "an event":
        one.events.put((Event.Message, "I am here"))
    elif what == "an event that was received":
        one.is_over = True
    else:
        session = object()
    assert not one.is_gone(session, 102.0)


def test_only_an_instance_that_is_listed_deserves_a_remark():
    one = silence()
    assert one.remark() == ""
    one.runs()
    assert one.remark() == ""
    one.runs(is_listed=True)
    assert "the server lists it as running" in one.remark()
    assert "hint: " in one.remark()


# --- on every protocol ----------------------------------------------------------------------------------------


def three(context: ProgramContext) -> str:
    for number in range(3):
        context.send(str(number))
    return "done"


def nothing(context: ProgramContext) -> str:
    return "done"


@pytest.fixture(params=PROBES)
def profile(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server(profile):
    with LocalServer(protocol=profile) as server:
        for program in (three, nothing, echo, sleep_until_told):
            server.program(f"{program.__name__.replace('_', '-')}@0.1.0")(program)
        yield server


@pytest.fixture(params=[False, True], ids=["", "reconnect"])
def client(server, request):
    with PieClient(server.uri, reconnect=request.param) as client:
        client.authenticate("alice")
        yield client


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    probe_soon(monkeypatch)


def count_probes(requests: Requests, profile: str) -> int:
    return requests.messages.count(PROBES[profile])


@pytest.mark.usefixtures("quick")
class TestALostEnd:
    @pytest.fixture(autouse=True)
    def _lost_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        LostEnds(monkeypatch)

    def test_wait(self, client):
        completed = client.launch_instance_from_registry("three@0.1.0").wait(LONG)
        assert completed.event is Event.ServerError
        assert "the server has lost the end of this instance" in completed.message
        assert "hint: launch it again" in completed.message
        assert completed.messages == ("0", "1", "2")

    def test_without_a_time_limit(self, client):
        with pytest.raises(InstanceFailed, match="has lost the end"):
            client.launch_instance_from_registry("nothing@0.1.0").wait(check=True)

    def test_iteration(self, client):
        events = [event for event, _ in client.launch_instance_from_registry("three@0.1.0")]
        assert events == [Event.Message] * 3 + [Event.ServerError]

    @pytest.mark.parametrize("timeout", [0, 0.01, 0.2])
    def test_receiving_with_short_limits(self, client, timeout):
        instance = client.launch_instance_from_registry("three@0.1.0")
        received = []
        deadline = time.monotonic() + LONG
        while not instance.finished:
            assert time.monotonic() < deadline
            try:
                received.append(instance.recv(timeout)[0])
            except PieTimeoutError:
                pass
        assert received == [Event.Message] * 3 + [Event.ServerError]
        with pytest.raises(InstanceEnded):
            instance.recv()

    def test_run(self, client):
        with pytest.raises(InstanceFailed, match="has lost the end"):
            client.run("nothing@0.1.0")

    def test_one_of_two_clients(self, client, server):
        """The other one's events are not affected, and its instance runs."""
        with PieClient(server.uri) as other:
            other.authenticate("alice")
            running = other.launch_instance_from_registry("echo@0.1.0")
            assert client.launch_instance_from_registry("nothing@0.1.0").wait(LONG).event is Event.ServerError
            running.send("still here")
            assert running.recv(LONG) == (Event.Message, "still here")

    def test_after_a_detached_launch(self, client, profile):
        if profile == "process-0.5":
            pytest.skip("a detached instance can't be attached to there")
        instance = client.launch_instance_from_registry("sleep-until-told@0.1.0", detached=True)
        attached = client.attach_instance(instance.id)
        attached.send("enough")
        assert attached.wait(LONG).event is Event.ServerError


@pytest.mark.usefixtures("quick")
def test_an_instance_that_runs_is_left_alone(client, profile, caplog):
    requests = Requests(caplog)
    instance = client.launch_instance_from_registry("echo@0.1.0")
    deadline = time.monotonic() + LONG
    while count_probes(requests, profile) < 4:
        assert time.monotonic() < deadline
        with pytest.raises(PieTimeoutError):
            instance.recv(0.1)
    instance.send("still here")
    assert instance.recv(LONG) == (Event.Message, "still here")
    assert client.stats().pending_requests == 0
    instance.terminate()
    assert instance.wait(LONG).event is Event.Aborted


@pytest.mark.usefixtures("quick")
def test_a_time_limit_says_that_the_server_lists_the_instance(client, profile):
    instance = client.launch_instance_from_registry("echo@0.1.0")
    with pytest.raises(PieTimeoutError) as caught:
        instance.wait(1)
    assert caught.value.instance_id == instance.id
    assert ("has lost its end" in str(caught.value)) == (profile != "instance")
    assert "not ended within 1 s" in str(caught.value)
    with pytest.raises(PieTimeoutError) as caught:
        client.run("echo@0.1.0", timeout=1)
    assert ("has lost its end" in str(caught.value)) == (profile != "instance")


@pytest.mark.usefixtures("quick")
def test_nobody_waits_and_nobody_asks(client, profile, caplog):
    """Only the instance that is waited for is asked about; and a list is asked for only while one is."""
    requests = Requests(caplog)
    silent = [client.launch_instance_from_registry("echo@0.1.0") for _ in range(5)]
    assert count_probes(requests, profile) == 0
    with pytest.raises(PieTimeoutError):
        silent[0].recv(1)
    asked = count_probes(requests, profile)
    assert 1 <= asked <= 6  # after 0.05, 0.1, 0.2, 0.4, 0.8 and 1.6 s
    assert silent[0].id is not None


def test_an_instance_that_speaks_costs_nothing(client, profile, caplog, monkeypatch):
    probe_soon(monkeypatch, QUICK._replace(first=2.0))
    requests = Requests(caplog)
    instance = client.launch_instance_from_registry("echo@0.1.0")
    deadline = time.monotonic() + 4.5
    while time.monotonic() < deadline:
        instance.send("here")
        assert instance.recv(LONG) == (Event.Message, "here")
        with pytest.raises(PieTimeoutError):
            instance.recv(0.1)
    assert count_probes(requests, profile) == 0


def test_all_silent_instances_of_a_map_at_once(server, profile, caplog, monkeypatch):
    """One list is for all of them; and of requests to attach only so many go out in a second."""
    count = 300
    probe_soon(monkeypatch, QUICK._replace(attaches=100.0))
    requests = Requests(caplog)
    with PieClient(server.uri, timeout=LONG) as client:
        client.authenticate("alice")
        begin = time.monotonic()
        results = client.map("echo@0.1.0", [[]] * count, concurrency=count, timeout=3, return_exceptions=True)
        assert all(isinstance(result, PieTimeoutError) for result in results)
        seconds = time.monotonic() - begin
        asked = count_probes(requests, profile)
    if profile == "instance":
        assert 100 <= asked <= 100 * (seconds + 1)
    else:
        assert 2 <= asked <= seconds / QUICK.look_again


# --- answers that cross with events --------------------------------------------------------------------------


def answer_probe(peer: Peer, text: str, *, ok: bool = False) -> dict[str, Any]:
    """Answer the next request, which must be a probe."""
    request = peer.receive()
    assert request["type"] == "attach_instance"
    peer.send(type="instance_attach_result", corr_id=request["corr_id"], successful=ok, message=text)
    return request


def wait_for_end(script: Any, *, reconnect: bool = False) -> Any:
    """Launch an instance on a scripted server, and wait for its end."""
    with scripted_server(script) as uri, connect(uri, reconnect=reconnect) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("x")
        return instance.wait(LONG)


@pytest.mark.usefixtures("quick")
class TestCrossing:
    def test_the_end_comes_before_the_answer(self):
        def script(peer: Peer) -> None:
            peer.authenticate()
            peer.launch()
            request = peer.receive()
            peer.event(1, "in time")
            peer.send(
                type="instance_attach_result",
                corr_id=request["corr_id"],
                successful=False,
                message="Instance not found",
            )
            wait_for_close(peer)

        assert wait_for_end(script).message == "in time"

    def test_the_end_comes_behind_the_answer(self):
        def script(peer: Peer) -> None:
            peer.authenticate()
            peer.launch()
            answer_probe(peer, "Instance not found")
            peer.event(1, "after all")
            wait_for_close(peer)

        assert wait_for_end(script).message == "after all"

    def test_an_event_between_two_answers(self):
        def script(peer: Peer) -> None:
            peer.authenticate()
            peer.launch()
            answer_probe(peer, "Instance not found")
            request = peer.receive()
            peer.event(0, "not yet")
            peer.send(
                type="instance_attach_result",
                corr_id=request["corr_id"],
                successful=False,
                message="Instance not found",
            )
            answer_probe(peer, "Instance not found")
            peer.event(1, "the end")
            wait_for_close(peer)

        completed = wait_for_end(script)
        assert (completed.messages, completed.message) == (("not yet",), "the end")

    def test_an_instance_that_was_detached_is_attached_by_the_probe(self):
        def script(peer: Peer) -> None:
            peer.authenticate()
            peer.launch()
            answer_probe(peer, "Instance attached", ok=True)
            peer.event(0, "from where it was")
            peer.event(1, "the end")
            wait_for_close(peer)

        completed = wait_for_end(script)
        assert (completed.messages, completed.message) == (("from where it was",), "the end")

    @pytest.mark.parametrize("text", ["Permission denied", "instance NOT found", ""])
    def test_other_refusals_say_nothing(self, text):
        def script(peer: Peer) -> None:
            peer.authenticate()
            peer.launch()
            for _ in range(4):
                answer_probe(peer, text)
            peer.event(1, "the end")
            wait_for_close(peer)

        assert wait_for_end(script).message == "the end"

    def test_a_probe_that_is_never_answered_makes_nothing_longer(self):
        def script(peer: Peer) -> None:
            peer.authenticate()
            peer.launch()
            for _ in range(3):
                assert peer.receive()["type"] == "attach_instance"
            peer.event(1, "the end")
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            client.authenticate("alice")
            instance = client.launch_instance_from_registry("x")
            begin = time.monotonic()
            with pytest.raises(PieTimeoutError):
                instance.recv(0.1)
            assert time.monotonic() - begin < 2
            assert client.stats().pending_requests <= 1
            assert instance.wait(LONG).message == "the end"

    def test_a_lost_connection_says_nothing(self):
        """One answer each from two connections."""
        connections = []

        def script(peer: Peer) -> None:
            connections.append(peer)
            peer.authenticate()
            if len(connections) == 1:
                peer.launch()
                answer_probe(peer, "Instance not found")
                peer.connection.close()
                return
            answer_probe(peer, "Instance attached", ok=True)  # of the reconnection
            answer_probe(peer, "Instance not found")
            peer.event(1, "the end")
            wait_for_close(peer)

        assert wait_for_end(script, reconnect=True).message == "the end"
        assert len(connections) == 2

    def test_a_connection_that_is_lost_with_a_probe_on_its_way(self):
        connections = []

        def script(peer: Peer) -> None:
            connections.append(peer)
            peer.authenticate()
            if len(connections) == 1:
                peer.launch()
                assert peer.receive()["type"] == "attach_instance"
                peer.connection.close()
                return
            answer_probe(peer, "Instance attached", ok=True)
            peer.event(1, "the end")
            wait_for_close(peer)

        assert wait_for_end(script, reconnect=True).message == "the end"

    def test_an_end_that_comes_much_too_late_is_dropped(self):
        def script(peer: Peer) -> None:
            peer.authenticate()
            peer.launch()
            answer_probe(peer, "Instance not found")
            answer_probe(peer, "Instance not found")
            peer.event(1, "too late")
            peer.launch("instance-2")
            peer.event(1, "another one", "instance-2")
            wait_for_close(peer)

        with scripted_server(script) as uri, connect(uri) as client:
            client.authenticate("alice")
            assert client.launch_instance_from_registry("x").wait(LONG).event is Event.ServerError
            assert client.launch_instance_from_registry("x").wait(LONG).message == "another one"


@pytest.mark.parametrize("result", ["no JSON", "{}", '[{"id": 1}]', "[" * 100_000])
def test_a_list_that_makes_no_sense_says_nothing(result, monkeypatch):
    probe_soon(monkeypatch)
    lists = []

    def script(peer: Peer) -> None:
        request = receive_process(peer)
        peer.send(type="response", corr_id=request["corr_id"], ok=True, result=AUTHENTICATED)
        request = receive_process(peer)
        peer.send(type="response", corr_id=request["corr_id"], ok=True, result="process-1")
        for _ in range(3):
            request = receive_process(peer)
            lists.append(request["type"])
            peer.send(type="response", corr_id=request["corr_id"], ok=True, result=result)
        peer.send(type="process_event", process_id="process-1", event="return", value="the end")
        wait_for_close(peer)

    with scripted_server(script) as uri, connect(uri, protocol="process") as client:
        client.authenticate("alice")
        assert client.launch_instance_from_registry("a@1.0.0").wait(LONG).message == "the end"
    assert lists == ["list_processes"] * 3


@pytest.mark.parametrize("shown", [False, True])
def test_what_a_user_of_the_internal_token_is_listed_counts_once_it_has_shown_something(shown, monkeypatch):
    """Nobody has seen whether a server of 0.3 or 0.4 lists such a user's own instances."""
    probe_soon(monkeypatch)
    info = {"id": "process-1", "username": "internal", "program": "a@1.0.0", "input": "{}", "elapsed_secs": 1}

    def script(peer: Peer) -> None:
        request = receive_process(peer)
        peer.send(type="response", corr_id=request["corr_id"], ok=True, result=AUTHENTICATED)
        request = receive_process(peer)
        peer.send(type="response", corr_id=request["corr_id"], ok=True, result="process-1")
        for number in range(4):
            request = receive_process(peer)
            listed = json.dumps([info] if shown and number == 0 else [])
            peer.send(type="response", corr_id=request["corr_id"], ok=True, result=listed)
        if not shown:
            peer.send(type="process_event", process_id="process-1", event="return", value="the end")
        wait_for_close(peer)

    with scripted_server(script) as uri, connect(uri, protocol="process") as client:
        client.internal_authenticate("token")
        done = client.launch_instance_from_registry("a@1.0.0").wait(LONG)
    assert done.event is (Event.ServerError if shown else Event.Completed)


def receive_process(peer: Peer) -> dict[str, Any]:
    import msgpack

    return msgpack.unpackb(peer.connection.recv(LONG))


# --- the costs ------------------------------------------------------------------------------------------------


def test_the_longest_wait_before_the_first_look():
    assert probes.first_nap(None) == Pace().first
    assert probes.first_nap(0) == 0
    assert probes.first_nap(0.1) == 0.1
    assert probes.first_nap(100) == Pace().first


def test_a_queue_says_when_something_comes():
    events = EventQueue()
    assert events.fill() == (0, 0)
    events.put((Event.Message, "a"))
    assert events.fill() == (1, 0)
    events.spill()
    assert events.fill()[0] == 0 < events.fill()[1]
    before = events.fill()
    events.put((Event.Message, "b"))
    assert events.fill() > before
    events.get()
    events.get()
    with pytest.raises(Empty):
        events.get(block=False)
    assert events.fill() == (0, 0)
