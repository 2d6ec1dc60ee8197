"""What is relied on without a lock, tried on the interpreter at hand with threads that switch all the time."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from pie_sync import Event, PieClient
from pie_sync._session import event_queue
from pie_sync._support.atomic import HAS_INTERPRETER_LOCK


@pytest.fixture(autouse=True)
def _tiny_switch_interval():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work, count: int = 4) -> None:
    begin = threading.Barrier(count)

    def run(number):
        begin.wait()
        work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_setdefault_lets_one_of_them_win():
    places: list[dict] = [{} for _ in range(5000)]
    found: list[list] = [[], [], [], []]
    in_threads(lambda number: found[number].extend(place.setdefault("key", number) for place in places))
    assert found[0] == found[1] == found[2] == found[3] == [place["key"] for place in places]


def test_pop_gives_each_item_to_one_of_them():
    items = dict.fromkeys(range(20_000), True)
    taken: list[list[int]] = [[], [], [], []]
    in_threads(lambda mine: taken[mine].extend(key for key in range(20_000) if items.pop(key, None)))
    assert sorted(sum(taken, [])) == list(range(20_000))


def test_whether_there_is_an_interpreter_lock():
    """Asked for once, and without it there is no fast path."""
    is_enabled = getattr(sys, "_is_gil_enabled", lambda: True)
    assert HAS_INTERPRETER_LOCK is event_queue.HAS_INTERPRETER_LOCK is is_enabled()
    program = (
        "import sys; sys._is_gil_enabled = lambda: False\n"
        "from pie_sync._session.event_queue import EventQueue\n"
        "print(EventQueue().fast_path)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_events_without_an_interpreter_lock(server, monkeypatch):
    monkeypatch.setattr(event_queue, "HAS_INTERPRETER_LOCK", False)
    with PieClient(server.uri) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("echo")
        events = instance._events
        for number in range(100):
            instance.send(str(number))
            assert instance.recv(timeout=20) == (Event.Message, str(number))
        instance.send("stop")
        assert [event for event, _ in instance] == [Event.Completed]
        assert not events.fast_path
