"""The limit on the memory of the events that nobody consumes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress

import pytest

from pie_sync import Blob, Event, PieClient, PieConnectionError, PieError
from pie_sync._session import event_queue as queue_module
from pie_sync._session import memory_limit
from pie_sync._session.event_queue import EventQueue
from pie_sync._session.memory_limit import MemoryLimit
from pie_sync._session.spill_file import SpillFile
from pie_sync.testing import LocalServer
from tests.session.queues import drain, messages, temporary_files

FULL_DISK = """
import resource
from pie_sync import Event, PieError
from pie_sync._session.memory_limit import MemoryLimit
from pie_sync._session.event_queue import EventQueue

resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
memory, events = MemoryLimit(100_000), EventQueue()
memory.watch(events)
for number in range(2000):
    memory.put(events, [(Event.Message, f"{number:06}" + 1000 * "x")])
events.end(lambda: EOFError())
expected = lost = 0
while True:
    try:
        number = int(events.get(block=False)[1][:6])
    except PieError as error:
        count = int(str(error).split()[0])  # "3 events are lost"
        expected += count
        lost += count
    except EOFError:
        break
    else:
        assert number == expected, "a gap that nobody was told of"
        expected += 1
assert expected == 2000
assert 0 < lost < 1500, lost
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no such limit")
def test_what_is_on_a_full_disk_can_still_be_read():
    """A real one, as far as it goes: the system lets no file of the process become larger."""
    result = subprocess.run([sys.executable, "-c", FULL_DISK], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


class TestMemoryLimit:
    def test_many_queues_take_few_files(self):
        memory = MemoryLimit(100_000)
        queues = [EventQueue() for _ in range(2000)]
        for events in queues:
            memory.watch(events)
        before = temporary_files()
        for turn in range(1, 3):
            for start in range(0, 20, 2):
                for events in queues:
                    memory.put(events, messages(start, start + 2))
            assert memory.spills > 1000 * turn
            assert temporary_files() - before < 5
            for events in queues:
                assert [events.get(block=False) for _ in range(20)] == messages(0, 20)
            assert temporary_files() == before

    def test_counting_while_instances_come(self):
        memory = MemoryLimit(100_000)
        kept = []

        def add():
            for _ in range(20_000):
                kept.append(EventQueue())
                memory.watch(kept[-1])

        thread = threading.Thread(target=add)
        thread.start()
        while thread.is_alive():
            assert memory.spilled_bytes() == 0
        thread.join()

    def test_the_fullest_goes_first(self):
        memory = MemoryLimit(100_000)
        small, large = EventQueue(), EventQueue()
        for events in (small, large):
            memory.watch(events)
        memory.put(small, messages(0, 50))
        for start in range(0, 5000, 100):
            memory.put(large, messages(start, start + 100))
        assert memory.spills == 1
        assert small.memory_size() > 0
        assert large.memory_size() == 0
        for events, count in ((small, 50), (large, 5000)):
            events.end(lambda: EOFError())
            assert drain(events) == messages(0, count)

    def test_what_is_consumed_does_not_count(self):
        memory = MemoryLimit(100_000)
        events = EventQueue()
        memory.watch(events)
        for start in range(0, 20_000, 100):
            memory.put(events, messages(start, start + 100))
            assert [events.get() for _ in range(100)] == messages(start, start + 100)
        assert memory.spills == 0

    def test_what_somebody_waits_for_takes_no_detour(self):
        memory = MemoryLimit(100_000)
        events = EventQueue()
        memory.watch(events)
        received = []
        thread = threading.Thread(target=lambda: received.append(events.get(timeout=20)))
        thread.start()
        while not events.waiting:
            pass
        memory.put(events, [(Event.Blob, Blob(bytes(1_000_000)))])
        thread.join(20)
        assert len(received[0][1]) == 1_000_000
        assert memory.spills == 0

    def test_what_nobody_holds_does_not_count(self):
        memory = MemoryLimit(100_000)
        for _ in range(200):
            events = EventQueue()
            memory.watch(events)
            memory.put(events, messages(0, 100))
        assert memory.spills == 0

    def test_a_full_disk_is_told_to_the_consumer(self, monkeypatch):
        monkeypatch.setattr(memory_limit, "_QUICK", 10.0)  # however long a look takes on this machine

        class Disk(SpillFile):
            is_full = True

            def write(self, items):
                if self.is_full:
                    raise OSError(28, "No space left on device")
                super().write(items)

        monkeypatch.setattr(queue_module, "SpillFile", Disk)
        memory = MemoryLimit(10_000)
        events = EventQueue()
        memory.watch(events)
        memory.put(events, messages(0, 10))
        memory.put(events, messages(10, 200))  # too much, but it is in memory, and stays there
        late = EventQueue()
        memory.watch(late)
        assert not events.fast_path, "the reader thread must not fill the memory past the limit"
        assert not late.fast_path
        memory.put(events, messages(200, 250))
        assert [events.get() for _ in range(200)] == messages(0, 200)
        with pytest.raises(PieError, match="50 events are lost: .*No space left on device"):
            events.get()
        memory.put(events, messages(250, 450))
        monkeypatch.setattr(Disk, "is_full", False)
        memory.put(events, messages(450, 500))
        assert memory.spills == 1
        memory.put(late, messages(0, 1))
        assert late.fast_path, "there is room again"
        events.end(lambda: EOFError())
        assert drain(events) == messages(250, 500)


class Filled:
    """A disk that takes nothing while ``is_full``."""

    def __init__(self, monkeypatch) -> None:
        self.is_full = True
        make, disk = tempfile.TemporaryFile, self

        def temporary_file(**options):
            if disk.is_full:
                raise OSError(30, "Read-only file system")
            return make(**options)

        monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)


class TestWithoutAPlaceForFiles:
    def test_who_fills_the_limit_pays(self, monkeypatch):
        """The one that nobody consumes loses events; the others, ten of them a little behind, lose none."""
        Filled(monkeypatch)
        memory = MemoryLimit(1_000_000)
        heap, others = EventQueue(), [EventQueue() for _ in range(10)]
        for events in (heap, *others):
            memory.watch(events)
        taken = dict.fromkeys(others, 0)
        for number in range(0, 60_000, 10):
            memory.put(heap, messages(number, number + 10))
            for events in others:
                memory.put(events, messages(number // 10, number // 10 + 1))
                if number >= 200:
                    assert events.get(block=False) == messages(taken[events], taken[events] + 1)[0]
                    taken[events] += 1
            assert heap.memory_size() + sum(events.memory_size() for events in others) < 1_010_000
        for events in (heap, *others):
            events.end(lambda: EOFError(), (Event.Completed, "done"))
        for events in others:
            assert drain(events) == [*messages(taken[events], 6000), (Event.Completed, "done")]
        told = told_losses(heap)
        assert told.pop() == (Event.Completed, "done"), "the end is never lost"
        assert sum(number if isinstance(number, int) else 1 for number in told) == 60_000
        assert sum(isinstance(number, tuple) for number in told) > 3000, "what it may have is still there"

    def test_all_are_equally_full(self, monkeypatch):
        Filled(monkeypatch)
        memory = MemoryLimit(1_000_000)
        queues = [EventQueue() for _ in range(20)]
        for events in queues:
            memory.watch(events)
        for number in range(2000):
            for events in queues:
                memory.put(events, messages(number, number + 1))
            assert memory_of(queues) < 1_010_000
        for events in queues:
            assert events.memory_size() > 20_000, "nobody is left without"
            events.end(lambda: EOFError(), (Event.Completed, "done"))
            told = told_losses(events)
            assert told.pop() == (Event.Completed, "done")
            assert sum(number if isinstance(number, int) else 1 for number in told) == 2000

    def test_what_is_behind_something_on_disk_stays_in_memory_as_far_as_there_is_room(self, monkeypatch):
        disk = Filled(monkeypatch)
        disk.is_full = False
        memory = MemoryLimit(100_000)
        events = EventQueue()
        memory.watch(events)
        memory.put(events, messages(0, 1000))
        assert memory.spills == 1
        monkeypatch.setattr(SpillFile, "write", full)
        memory.put(events, messages(1000, 1100))
        monkeypatch.undo()
        memory.put(events, messages(1100, 1200))
        events.end(lambda: EOFError(), (Event.Completed, "done"))
        assert drain(events) == [*messages(0, 1200), (Event.Completed, "done")]

    def test_a_large_event_that_finds_no_room_is_one_error(self, monkeypatch):
        Filled(monkeypatch)
        memory = MemoryLimit(100_000)
        greedy, modest = EventQueue(), EventQueue()
        for events in (greedy, modest):
            memory.watch(events)
        for number in range(5):
            memory.put(greedy, [(Event.Blob, Blob(bytes(1_000_000)))])
            memory.put(modest, messages(number, number + 1))
            memory.put(modest, messages(number, number + 1))
            assert memory_of([greedy, modest]) < 100_000
        greedy.end(lambda: EOFError())
        assert told_losses(greedy) == [5]
        assert modest.qsize() == 10

    def test_a_queue_that_is_consumed_loses_no_more(self, monkeypatch):
        """At once, also if it will be a while until the disk is tried again."""
        Filled(monkeypatch)
        memory = MemoryLimit(100_000)
        events = EventQueue()
        memory.watch(events)
        for start in range(0, 2000, 10):
            memory.put(events, messages(start, start + 10))
        memory._next_try = float("inf")
        memory.put(events, messages(2000, 2010))
        held = events.qsize()
        assert [events.get(block=False) for _ in range(held)] == messages(0, held)
        with pytest.raises(PieError, match=f"{2010 - held} events are lost"):
            events.get(block=False)
        memory.put(events, messages(2010, 2020))
        assert [events.get(block=False) for _ in range(10)] == messages(2010, 2020)

    def test_room_again(self, monkeypatch):
        monkeypatch.setattr(
            memory_limit, "_QUICK", 10.0
        )  # not to be tried again for a while, if a look takes long
        disk = Filled(monkeypatch)
        memory = MemoryLimit(100_000)
        events = EventQueue()
        memory.watch(events)
        for start in range(0, 2000, 10):
            memory.put(events, messages(start, start + 10))
        disk.is_full = False
        memory.put(events, messages(2000, 4000))
        events.end(lambda: EOFError())
        told = told_losses(events)
        assert told[-2000:] == messages(2000, 4000)
        [lost] = [number for number in told if isinstance(number, int)]
        assert lost + len(told) - 1 == 4000


def full(*_):
    raise OSError(28, "No space left on device")


def memory_of(queues) -> int:
    return sum(events.memory_size() for events in queues)


def told_losses(events: EventQueue):
    """Everything up to the end, a loss as the number of events that are lost."""
    result = []
    while True:
        try:
            result.append(events.get(block=False))
        except EOFError:
            return result
        except PieError as error:
            result.append(int(str(error).split()[0]))


@pytest.mark.parametrize("letter", ["x", "ü", "漢", "😀"])
def test_bytes_count_not_characters(letter):
    memory = MemoryLimit(1_000_000)
    events = EventQueue()
    memory.watch(events)
    peak = 0
    for _ in range(200):
        memory.put(events, [(Event.Message, 10_000 * letter)])
        held = [entry[1] for entry in events.queue]
        peak = max(peak, sum(map(sys.getsizeof, held)))
    assert 800_000 < peak < 1_000_000


def test_two_threads_may_put():
    """The reader threads of two connections: while the one ends, the other one has begun."""
    memory = MemoryLimit(50_000)
    queues = [EventQueue() for _ in range(2)]

    def put(events: EventQueue) -> None:
        memory.watch(events)
        for start in range(0, 20_000, 10):
            memory.put(events, messages(start, start + 10))

    threads = [threading.Thread(target=put, args=(events,)) for events in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory_of(queues) <= 50_000
    for events in queues:
        events.end(lambda: EOFError())
        assert drain(events) == messages(0, 20_000)


@pytest.mark.parametrize("how", ["closed and connected", "lost and restored"])
def test_one_limit_for_all_connections(how):
    """What instances of earlier connections have left counts, as long as somebody may consume it."""
    limit = 1_000_000
    with LocalServer() as server:

        @server.program("sender")
        def sender(context):
            for _ in range(90):
                context.send(10_000 * "x")
            context.receive()

        with PieClient(server.uri, max_buffered_bytes=limit, reconnect=how == "lost and restored") as client:
            client.authenticate("alice")
            instances = []
            for _ in range(6):
                instances.append(client.launch_instance_from_registry("sender"))
                while received(instances[-1]) < 90 * 10_000:
                    pass
                assert memory_of(instance._events for instance in instances) <= limit
                if how == "closed and connected":
                    client.close()
                    client.connect()
                    client.authenticate("alice")
                else:
                    lose_the_connection(server, client)
            assert client.stats().spilled_bytes > 4 * 900_000
            for instance in instances:
                assert [instance.recv(10) for _ in range(90)] == 90 * [(Event.Message, 10_000 * "x")]


def received(instance) -> int:
    return instance._events.memory_size() + instance._events.spilled_size()


def lose_the_connection(server, client) -> None:
    reconnects = client.stats().reconnects
    server.drop_connections()
    while client.stats().reconnects == reconnects:
        with suppress(PieConnectionError):
            client.ping(timeout=10)


def test_queues_that_are_gone_leave_nothing_behind():
    memory = MemoryLimit(1_000_000)
    kept = [EventQueue() for _ in range(10)]
    for events in kept:
        memory.watch(events)
        memory.watch(events)  # on another connection
    for _ in range(10_000):
        memory.watch(EventQueue())
    assert len(memory._references) < 3000
    assert {id(events) for events in memory._queues()} == {id(events) for events in kept}
