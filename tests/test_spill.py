"""Events that nobody consumes, on disk."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from pie_sync import Blob, Event, PieError
from pie_sync._session import event_queue as queue_module
from pie_sync._session.event_queue import EventQueue
from pie_sync._session.memory_limit import MemoryLimit
from pie_sync._session.spill_file import SpillFile, SpillSpace


def messages(start: int, stop: int):
    return [(Event.Message, f"message {number}") for number in range(start, stop)]


def drain(events: EventQueue):
    """Everything up to the end, errors included."""
    received = []
    while True:
        try:
            received.append(events.get(timeout=10))
        except EOFError:
            return received
        except ValueError as error:
            received.append(error)


def temporary_files() -> int:
    """How many files without a name this process has open."""
    gc.collect()  # those of earlier tests
    names = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed by now
            names.append(os.readlink(f"/proc/self/fd/{number}"))
    return sum(name.endswith("(deleted)") for name in names)


def take(file: SpillFile):
    """A whole batch."""
    batch = file.read()
    return [batch.popleft() for _ in range(len(batch))]


def test_what_is_not_taken_of_a_batch_stays():
    """As when Ctrl-C comes in between."""
    file = SpillFile()
    file.write(messages(0, 10))
    file.write(messages(10, 20))
    assert [file.read().popleft() for _ in range(7)] == messages(0, 7)
    assert [take(file), take(file), take(file)] == [messages(7, 10), messages(10, 20), []]
    file.close()


def test_a_file_returns_what_was_written():
    file = SpillFile()
    batches = [
        [(Event.Message, "text"), (Event.Stdout, "ü\n"), (Event.Stderr, "")],
        [(Event.Blob, Blob(b"\0\xff", "a.png")), (Event.Blob, Blob(b""))],
        [(Event.Completed, "done")],
    ]
    file.write(batches[0])
    file.write(batches[1])
    assert take(file) == batches[0]
    file.write(batches[2])
    second = take(file)
    assert second == batches[1]
    assert [data.name for _, data in second] == ["a.png", None]
    assert file.size > 0
    assert file.read().popleft() == batches[2][0]
    assert file.size == 0
    file.close()


def test_everything_keeps_its_order():
    events = EventQueue()
    errors = [ValueError(number) for number in range(3)]
    events.put_batch(messages(0, 10))
    events.put_error(errors[0])
    events.put_batch(messages(10, 20))
    events.spill()
    assert events.memory_size() == 0
    assert not events.fast_path, "what comes next must not overtake what is on disk"
    events.put_batch(messages(20, 30))
    assert events.memory_size() == 0, "what comes behind something on disk goes there too"
    events.put_error(errors[1])
    events.put_batch(messages(30, 40))
    assert events.get() == (Event.Message, "message 0")
    events.spill()
    events.spill()
    events.put_batch(messages(40, 50))
    events.put_error(errors[2])
    events.end(lambda: EOFError())
    expected = [*messages(1, 10), errors[0], *messages(10, 30), errors[1], *messages(30, 50), errors[2]]
    assert drain(events) == expected
    assert events.exhausted
    assert not any(isinstance(part, SpillFile) for part in events._overflow)


def test_memory_again_once_the_disk_is_read():
    events = EventQueue()
    events.put_batch(messages(0, 10))
    events.spill()
    assert [events.get() for _ in range(10)] == messages(0, 10)
    events.put_batch(messages(10, 20))
    assert events.fast_path
    assert events.memory_size() > 0
    assert [events.get() for _ in range(10)] == messages(10, 20)
    assert events.memory_size() == 0


def test_spilling_while_others_consume():
    """Consumers take without the lock, also in the moment in which everything is moved to disk."""
    events = EventQueue()
    total = 30_000
    received = []

    def consume():
        received.extend(drain(events))

    thread = threading.Thread(target=consume)
    thread.start()
    for start in range(0, total, 100):
        events.put_batch(messages(start, start + 100))
        if start % 700 == 0:
            events.spill()
    events.end(lambda: EOFError())
    thread.join(60)
    assert received == messages(0, total)


def test_large_backlogs_come_back_in_pieces():
    events = EventQueue()
    big = [(Event.Message, "x" * 100_000) for _ in range(50)]
    events.put_batch(big)
    events.spill()
    events.get()
    assert events.memory_size() < 2 * queue_module._PIECE_SIZE
    events.end(lambda: EOFError())
    assert len(drain(events)) == 49


def test_what_is_being_moved_to_disk_is_not_gone():
    """Nobody may take an ended instance for consumed in the moment in which its events are in no place."""
    events = EventQueue()
    events.put_batch(messages(0, 2000))
    events.end(lambda: EOFError())
    over = threading.Event()

    def spill():
        while not over.is_set():
            events.spill()
            with events.mutex:
                events._advance()

    thread = threading.Thread(target=spill)
    thread.start()
    try:
        assert not any(events.exhausted for _ in range(20_000))
    finally:
        over.set()
        thread.join()


FULL_DISK = """
import resource
from pie_sync import Event, PieError
from pie_sync._session.memory_limit import MemoryLimit
from pie_sync._session.event_queue import EventQueue

resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
backlog, events = MemoryLimit(100_000), EventQueue()
backlog.watch(events)
for number in range(2000):
    backlog.put(events, [(Event.Message, f"{number:06}" + 1000 * "x")])
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


def test_losses_without_an_event_between_them_are_told_together():
    events = EventQueue()
    assert [events.put_loss(2, "why") for _ in range(500)] == [True] + [False] * 499
    events.put_batch(messages(0, 1))
    assert events.put_loss(3, "why")
    for count in (1000, 3):
        with pytest.raises(PieError, match=f"{count} events are lost: why"):
            while True:
                assert events.get(block=False) == messages(0, 1)[0]


def test_queues_share_a_space_and_give_it_back():
    before = temporary_files()
    space = SpillSpace()
    queues = [EventQueue() for _ in range(50)]
    for turn in range(4):
        for events in queues:
            events.put_batch(messages(10 * turn, 10 * turn + 10))
            if turn % 2 == 0:
                events.spill(space)
    assert temporary_files() == before + 1
    for number, events in enumerate(queues):
        events.put_batch(messages(40, 45))  # behind what is on disk
        if number % 3:
            events.end(lambda: EOFError())
            assert drain(events) == messages(0, 45)
    del queues, events  # what nobody consumes any more needs no space either
    assert temporary_files() == before
    assert not space.enter()


class TestBacklog:
    def test_many_queues_take_few_files(self):
        backlog = MemoryLimit(100_000)
        queues = [EventQueue() for _ in range(2000)]
        for events in queues:
            backlog.watch(events)
        before = temporary_files()
        for turn in range(1, 3):
            for start in range(0, 20, 2):
                for events in queues:
                    backlog.put(events, messages(start, start + 2))
            assert backlog.spills > 1000 * turn
            assert temporary_files() - before < 5
            for events in queues:
                assert [events.get(block=False) for _ in range(20)] == messages(0, 20)
            assert temporary_files() == before

    def test_counting_while_instances_come(self):
        backlog = MemoryLimit(100_000)
        kept = []

        def add():
            for _ in range(20_000):
                kept.append(EventQueue())
                backlog.watch(kept[-1])

        thread = threading.Thread(target=add)
        thread.start()
        while thread.is_alive():
            assert backlog.spilled_bytes() == 0
        thread.join()

    def test_the_fullest_goes_first(self):
        backlog = MemoryLimit(100_000)
        small, large = EventQueue(), EventQueue()
        for events in (small, large):
            backlog.watch(events)
        backlog.put(small, messages(0, 50))
        for start in range(0, 5000, 100):
            backlog.put(large, messages(start, start + 100))
        assert backlog.spills == 1
        assert small.memory_size() > 0
        assert large.memory_size() == 0
        for events, count in ((small, 50), (large, 5000)):
            events.end(lambda: EOFError())
            assert drain(events) == messages(0, count)

    def test_what_is_consumed_does_not_count(self):
        backlog = MemoryLimit(100_000)
        events = EventQueue()
        backlog.watch(events)
        for start in range(0, 20_000, 100):
            backlog.put(events, messages(start, start + 100))
            assert [events.get() for _ in range(100)] == messages(start, start + 100)
        assert backlog.spills == 0

    def test_what_somebody_waits_for_takes_no_detour(self):
        backlog = MemoryLimit(100_000)
        events = EventQueue()
        backlog.watch(events)
        received = []
        thread = threading.Thread(target=lambda: received.append(events.get(timeout=20)))
        thread.start()
        while not events.waiting:
            pass
        backlog.put(events, [(Event.Blob, Blob(bytes(1_000_000)))])
        thread.join(20)
        assert len(received[0][1]) == 1_000_000
        assert backlog.spills == 0

    def test_what_nobody_holds_does_not_count(self):
        backlog = MemoryLimit(100_000)
        for _ in range(200):
            events = EventQueue()
            backlog.watch(events)
            backlog.put(events, messages(0, 100))
        assert backlog.spills == 0

    def test_a_full_disk_is_told_to_the_consumer(self, monkeypatch):
        class Disk(SpillFile):
            is_full = True

            def write(self, items):
                if self.is_full:
                    raise OSError(28, "No space left on device")
                super().write(items)

        monkeypatch.setattr(queue_module, "SpillFile", Disk)
        backlog = MemoryLimit(10_000)
        events = EventQueue()
        backlog.watch(events)
        backlog.put(events, messages(0, 10))
        backlog.put(events, messages(10, 200))  # too much, but it is in memory, and stays there
        late = EventQueue()
        backlog.watch(late)
        assert not events.fast_path, "the reader thread must not fill the memory past the limit"
        assert not late.fast_path
        backlog.put(events, messages(200, 250))
        assert [events.get() for _ in range(200)] == messages(0, 200)
        with pytest.raises(PieError, match="50 events are lost: .*No space left on device"):
            events.get()
        backlog.put(events, messages(250, 450))
        monkeypatch.setattr(Disk, "is_full", False)
        backlog.put(events, messages(450, 500))
        assert backlog.spills == 1
        backlog.put(late, messages(0, 1))
        assert late.fast_path, "there is room again"
        events.end(lambda: EOFError())
        assert drain(events) == messages(250, 500)
