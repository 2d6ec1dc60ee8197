"""A launch whose answer no thread waits for: when it is handed over, and when its instance is terminated."""

from __future__ import annotations

import gc
import math
import sys
import weakref

import pytest

from pie_sync import Event, PieClient, PieTimeoutError
from pie_sync._runs.launch import Launch
from pie_sync._runs.launcher import Launcher
from pie_sync._runs.program_reference import ProgramReference
from pie_sync._support.signal_safe_queue import SignalSafeQueue
from pie_sync._support.time_limits import TimeLimit
from tests.scripted import Peer, connect, scripted_server, wait_for_close


def launch_of(client: PieClient, done: SignalSafeQueue | None) -> Launch:
    program = ProgramReference("sleep-until-told", None)
    return Launch(Launcher(client._manager, "map", program, TimeLimit(20)), TimeLimit(20), done)


def answer(peer: Peer, request: dict, instance_id: str) -> None:
    peer.send(type="instance_launch_result", corr_id=request["corr_id"], successful=True, message=instance_id)


def ends_before_it_is_answered(peer: Peer) -> None:
    """A server that tells the end of an instance before its id, as one of the process protocol may."""
    peer.authenticate()
    number = 0
    while True:
        request = peer.receive(60)
        peer.event(1, "done", str(number))
        answer(peer, request, str(number))
        number += 1


# --- when it is handed over -----------------------------------------------------------------------------------


def test_an_instance_that_has_ended_before_is_handed_over_when_the_answer_is_noted():
    class Checked(SignalSafeQueue):
        def put_without_waking(self, launch):
            settled.append(launch.settled)
            super().put_without_waking(launch)

    settled: list[bool] = []
    done: SignalSafeQueue[Launch] = Checked()
    with scripted_server(ends_before_it_is_answered) as uri, connect(uri) as client:
        client.authenticate("alice")
        for _ in range(10):
            launch = launch_of(client, done)
            launch.send([])
            assert done.get(10) is launch
            assert launch.completed([]).message == "done"
    assert settled == [True] * 10


def test_thousands_of_them_with_threads_that_switch_all_the_time():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with scripted_server(ends_before_it_is_answered) as uri, connect(uri) as client:
            client.authenticate("alice")
            results = client.map("any", ([str(number)] for number in range(3000)))
            assert sum(completed.event is Event.Completed for completed in results) == 3000
    finally:
        sys.setswitchinterval(before)


# --- when nobody wants its instance any more ------------------------------------------------------------------


def test_an_instance_that_comes_when_its_launch_was_dropped_is_let_go(server, client):
    """Nobody could receive its events, nor forget them, nor terminate it."""
    server.delay(math.inf)
    launch = launch_of(client, SignalSafeQueue())
    launch.send([])
    launch.drop()
    server.delay(0)
    assert client.ping() > 0  # is answered after the launch
    assert launch.settled
    assert launch.instance is None
    assert not client._manager.connection.session.router._queues
    assert len(server.instances) == 1
    assert client.ping() > 0  # is sent after the termination
    assert client.list_instances() == []


def test_an_instance_that_is_there_is_terminated_when_its_launch_is_dropped(server, client):
    launch = launch_of(client, None)
    launch.send([])
    assert launch.wait(None)
    assert len(client.list_instances()) == 1
    launch.drop()
    launch.drop()
    assert not launch.is_running
    assert client.list_instances() == []


def test_dropping_races_with_the_answer(server):
    """Whoever comes second terminates the instance: the reader thread, or the thread that drops the launch."""
    with PieClient(server.uri) as client:
        client.authenticate("alice")
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for number in range(100):
                launch = launch_of(client, None)
                launch.send([])
                for _ in range(50 * (number % 20)):
                    launch.settled  # noqa: B018 - a while of a varying length
                launch.drop()
        finally:
            sys.setswitchinterval(before)
        assert client.ping() > 0  # is answered after all launches
        assert client.ping() > 0  # is sent after all terminations
        assert client.list_instances() == []
        assert len(server.instances) == 100


def test_an_answer_that_comes_after_the_launch_was_given_up():
    terminated = []

    def script(peer: Peer) -> None:
        peer.authenticate()
        request = peer.receive()
        peer.respond(peer.receive(), "Pong")
        answer(peer, request, "late")
        request = peer.receive()
        terminated.append((request["type"], request["instance_id"]))
        peer.respond(request)
        peer.respond(peer.receive(), "Pong")
        wait_for_close(peer)

    with scripted_server(script) as uri, connect(uri) as client:
        client.authenticate("alice")
        done: SignalSafeQueue[Launch] = SignalSafeQueue()
        launch = launch_of(client, done)
        launch.send([])
        launch.give_up()
        client.ping()
        assert done.get(10) is launch
        assert launch.instance is None
        client.ping()
        assert client.stats().unclaimed == {}
        assert client.stats().pending_requests == 0
    assert terminated == [("terminate_instance", "late")]


def test_what_is_never_answered_does_not_keep_its_arguments():
    class Argument(str):
        """One that a weak reference can be had of."""

    def script(peer: Peer) -> None:
        peer.authenticate()
        wait_for_close(peer)

    with scripted_server(script) as uri, connect(uri) as client:
        client.authenticate("alice")
        argument = Argument("x" * 1000)
        reference = weakref.ref(argument)
        launch = launch_of(client, None)
        launch.send([argument])
        launch.give_up()
        del argument
        gc.collect()
        assert reference() is None
        assert len(client._manager.connection.session.router.pending._abandoned) == 1


def test_one_whose_turn_to_be_sent_does_not_come_is_given_up(client):
    launch = Launch(launch_of(client, None)._launcher, TimeLimit(0.1), SignalSafeQueue())
    with client._manager.connection.session._websocket._send_lock:
        with pytest.raises(PieTimeoutError, match="nothing was sent"):
            launch.send([])
    assert client.stats().pending_requests == 0
