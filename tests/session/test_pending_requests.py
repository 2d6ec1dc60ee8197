"""A request must never be overlooked, whenever the connection is lost: its caller would wait for ever."""

from __future__ import annotations

import gc
import threading
from time import monotonic

import msgpack
import pytest

from pie_sync import Event, PieClient, PieConnectionError, PieTimeoutError, ProtocolError
from pie_sync._protocol.messages import Answer
from pie_sync._session.pending_request import PendingRequest
from pie_sync._session.pending_requests import _MAX_ABANDONED, UNATTENDED, PendingRequests
from pie_sync.testing import LocalServer
from tests.programs import HELLO
from tests.scripted import Peer, connect, scripted_server, wait_for_close

LOST = PieConnectionError("the connection is lost")


def call():
    return PendingRequest("ping", ("response",))


class LosesIt:
    """The lock of all requests; but the connection is lost right before it is acquired, or released."""

    def __init__(self, calls, *, before):
        self.calls, self.before = calls, before
        self.lock, calls._lock = calls._lock, self

    def lose(self):
        self.calls._lock = self.lock
        self.calls.fail_all(LOST)

    def __enter__(self):
        if self.before:
            self.lose()
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()
        if not self.before:
            self.lose()


@pytest.mark.parametrize("before", [True, False])
def test_lost_while_it_is_registered(before):
    calls = PendingRequests()
    LosesIt(calls, before=before)
    request = call()
    with pytest.raises(PieConnectionError, match="the connection is lost"):
        calls.add(request)
        assert request.wait(monotonic())
        request.result()
    assert len(calls) == 0


def test_lost_while_many_threads_register():
    for _ in range(20):
        calls = PendingRequests()
        registered: list[list[PendingRequest]] = [[] for _ in range(4)]
        under_way = threading.Barrier(5)

        def register(mine, calls=calls, under_way=under_way):
            with pytest.raises(PieConnectionError):
                while True:
                    mine.append(call())
                    calls.add(mine[-1])
                    if len(mine) == 1:
                        under_way.wait()

        threads = [threading.Thread(target=register, args=(mine,)) for mine in registered]
        for thread in threads:
            thread.start()
        under_way.wait()
        calls.fail_all(LOST)
        for thread in threads:
            thread.join()
        # The last one of each was refused by add().
        waiting = [one for mine in registered for one in mine[:-1]]
        assert all(one.wait(monotonic()) for one in waiting)
        assert len(calls) == 0


@pytest.mark.parametrize("what_comes", ["the end", "a message that makes no sense"])
def test_a_finalizer_that_gives_up_a_call_meanwhile(what_comes):
    """The garbage collector runs where it likes to, and in it whatever other threads do."""
    calls = PendingRequests()
    waiting = {calls.add(one): one for one in [call() for _ in range(50)]}
    given_up = []

    class Garbage:
        def __init__(self):
            self.me = self

        def __del__(self):
            if waiting:
                # From Python 3.12 on it also runs where this thread has the lock.
                if calls.is_usable_here():
                    given_up.append(waiting.popitem())
                    calls.remove(given_up[-1][1])
                Garbage()

    threshold = gc.get_threshold()
    kept = [(number, number) for number in range(1000)]  # so that no pair is taken from those that were freed
    Garbage()
    gc.set_threshold(1)
    try:
        if what_comes == "the end":
            calls.fail_all(LOST)
        else:
            calls.refuse("what?")
    finally:
        gc.set_threshold(*threshold)
        left, waiting = waiting, {}
        gc.collect()
    assert kept
    if what_comes == "the end":
        assert all(one.settled for one in left.values())
        assert len(calls) == 0


def test_a_message_that_the_server_could_not_understand_was_no_probe():
    calls = PendingRequests()
    probe, mine = PendingRequest("probe", ("response",), is_probe=True), call()
    calls.add(probe)
    calls.refuse("what?")
    assert not probe.settled
    calls.add(mine)
    calls.refuse("what?")
    assert mine.settled
    assert not probe.settled


def test_every_thread_gets_ids_of_its_own():
    calls = PendingRequests()
    ids: list[list[int]] = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda mine=mine: mine.extend(calls.add(call()) for _ in range(5000)))
        for mine in ids
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for mine in ids for one in mine}) == len(calls) == 20_000


def test_correlation_ids_wrap_before_2_to_the_32():
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


def test_the_id_of_what_nobody_waits_for_is_given_to_nobody():
    calls = PendingRequests()
    calls._next_id = UNATTENDED - 1
    assert [calls.add(call()) for _ in range(2)] == [UNATTENDED - 1, UNATTENDED + 1]


# --- requests that bring an instance ------------------------------------------------------------------------


def launch():
    return PendingRequest("launch", ("launched",), lambda answer: None)


def keeps_early_events(calls: PendingRequests) -> bool:
    calls.keep_early("one", ("one", Event.Message, "early"))
    return calls.take_early("one") != ([], 0)


def test_one_that_was_never_sent_is_forgotten():
    calls = PendingRequests()
    request = launch()
    calls.add(request)
    assert keeps_early_events(calls)
    calls.remove(request)
    assert not keeps_early_events(calls)
    assert not calls._abandoned
    assert len(calls) == 0


def test_one_that_may_have_been_sent_is_expected_until_it_is_answered():
    calls = PendingRequests()
    request = launch()
    corr_id = calls.add(request)
    request.mark_as_sent()
    calls.remove(request)
    assert keeps_early_events(calls)
    calls.answer(Answer(corr_id, "launched", True, "one"))
    assert not keeps_early_events(calls)
    assert request.settled


def test_a_senseless_answer_is_one_too():
    calls = PendingRequests()
    request = launch()
    corr_id = calls.add(request)
    request.mark_as_sent()
    calls.remove(request)
    assert calls.fail(corr_id, ProtocolError("a message that makes no sense"))
    assert not keeps_early_events(calls)


def test_those_that_are_never_answered_are_bounded():
    calls = PendingRequests()
    for _ in range(3 * _MAX_ABANDONED):
        request = launch()
        calls.add(request)
        request.mark_as_sent()
        calls.remove(request)
    assert len(calls._abandoned) == len(calls._expecting) == _MAX_ABANDONED


def test_removing_twice_or_without_adding_does_nothing():
    calls = PendingRequests()
    request = launch()
    calls.remove(request)
    calls.add(request)
    calls.remove(request)
    calls.remove(request)
    assert len(calls) == len(calls._expecting) == 0


def never_answers(peer: Peer) -> None:
    peer.authenticate()
    wait_for_close(peer)


def test_arguments_that_can_not_be_sent_leave_nothing_pending():
    with LocalServer(protocol="process") as server, PieClient(server.uri) as client:
        client.authenticate("alice")
        program_hash = client.upload_program(HELLO)
        pending = client._manager.connection.session.router.pending
        with pytest.raises(TypeError):
            client.launch_instance(program_hash, {"a": object()})
        with pytest.raises(TypeError):
            client.launch_instance_from_registry("x", {"a": object()})
        with pytest.raises(TypeError):
            client.run("x", {"a": object()})
        with pytest.raises(TypeError):
            next(client.map("x", [{"a": object()}]))
        assert len(pending) == len(pending._expecting) == len(pending._abandoned) == 0


def test_what_did_not_get_its_turn_to_be_sent_leaves_nothing_pending():
    with scripted_server(never_answers) as uri, connect(uri) as client:
        client.authenticate("alice")
        session = client._manager.connection.session
        pending = session.router.pending
        with session._websocket._send_lock:  # as if another thread were sending
            for use in (
                lambda: client.launch_instance_from_registry("x", timeout=0.1),
                lambda: client.attach_instance("one", timeout=0.1),
                lambda: client.run("x", timeout=0.1),
            ):
                with pytest.raises(PieTimeoutError, match="nothing was sent"):
                    use()
        assert len(pending) == len(pending._expecting) == len(pending._abandoned) == 0


def test_what_was_sent_in_part_is_expected():
    """The rest of it goes out with the next message, and an instance may come of it."""
    stop = threading.Event()

    def script(peer: Peer) -> None:
        peer.authenticate()
        assert stop.wait(30)

    with scripted_server(script, max_queue=1, close_timeout=0.1) as uri, connect(uri) as client:
        client.authenticate("alice")
        for _ in range(5):  # so many messages are in the server's queue that it stops reading
            with pytest.raises(PieTimeoutError):
                client.ping(timeout=0.05)
        pending = client._manager.connection.session.router.pending
        with pytest.raises(PieTimeoutError, match="was not sent in time"):
            client.launch_instance_from_registry("x", ["y" * 63 * 1024 * 1024], timeout=0.5)
        assert len(pending) == 0
        assert len(pending._expecting) == len(pending._abandoned) == 1
        stop.set()


def test_several_are_added_at_once_each_with_an_id_of_its_own():
    pending = PendingRequests()
    requests = [call() for _ in range(5)]
    pending.add_all(requests)
    assert len({request.corr_ids for request in requests}) == 5
    assert len(pending) == 5
    pending.fail_all(PieConnectionError("lost"))
    late = call()
    with pytest.raises(PieConnectionError, match="lost"):
        pending.add_all([late])
    assert late.corr_ids == ()
