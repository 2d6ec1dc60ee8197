"""Events on disk, as bytes in temporary files."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import warnings
from collections import deque
from random import Random

import pytest

from pie_sync import Blob, Event
from pie_sync._session.event_queue import EventQueue
from pie_sync._session.spill_file import PIECE_SIZE, SeekingFile, SpillFile, SpillSpace
from tests.session.queues import drain, messages, temporary_files


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
    assert space.size == 0


def test_what_is_read_is_used_again():
    """A consumer that stays a little behind does not let the files grow."""
    space = SpillSpace()
    file = SpillFile(space)
    taken = largest = 0
    for number in range(4000):
        file.write([(Event.Message, f"{number:08}" + 100_000 * "x")])
        while number - taken >= 20:
            [(_, text)] = take(file)
            assert text.startswith(f"{taken:08}")
            taken += 1
        largest = max(largest, space.size)
    assert largest < 3 * 20 * 100_008, "for 2 MB that are unread"


def test_files_are_closed_as_they_are_read():
    """Also when nothing is written any more."""
    space = SpillSpace()
    file = SpillFile(space)
    for number in range(200):
        file.write([(Event.Blob, Blob(bytes([number]) * 2**20))])
    for number in range(200):
        assert space.size <= file.size + 2 * 64 * 2**20
        assert take(file) == [(Event.Blob, bytes([number]) * 2**20)]
    del file
    assert space.size == 0


def test_what_is_given_back_by_one_is_used_by_others():
    space = SpillSpace()
    kept = SpillFile(space)
    kept.write(messages(0, 10))
    for _ in range(50):
        file = SpillFile(space)
        file.write([(Event.Blob, Blob(bytes(3 * 2**20)))])
        assert space.size < 8 * 2**20
        del file  # as when nobody holds the instance any more
    assert take(kept) == messages(0, 10)


@pytest.mark.parametrize("make_file", [SpillSpace.make_file, SeekingFile])
def test_large_and_small_events_across_extents(make_file, monkeypatch):
    """With and without the functions that Windows lacks."""
    monkeypatch.setattr(SpillSpace, "make_file", make_file)
    random = Random(1)
    space = SpillSpace()
    files = [SpillFile(space) for _ in range(3)]
    expected = [deque() for _ in files]
    for _ in range(300):
        number = random.randrange(3)
        if random.random() < 0.6:
            size = random.choice([0, 1, 1000, PIECE_SIZE - 1, PIECE_SIZE, 2_500_000])
            kind = random.choice([Event.Blob, Event.Message, Event.Stdout])
            letter = random.choice("aü漢😀")
            name = random.choice([None, "name"])
            data = Blob(random.randbytes(size), name) if kind is Event.Blob else size * letter
            items = [*messages(0, 3), (kind, data), *messages(3, 5)]
            files[number].write(items)
            expected[number].extend(items)
        else:
            for event, data in take(files[number]):
                wanted = expected[number].popleft()
                assert (event, data) == wanted
                assert getattr(data, "name", None) == getattr(wanted[1], "name", None)
    for file, left in zip(files, expected):
        while left:
            for item in take(file):
                assert item == left.popleft()
        assert file.size == 0
    del files, file
    assert space.size == 0


def test_one_thread_writes_while_another_reads():
    file = SpillFile()
    total = 20_000

    def write() -> None:
        for number in range(0, total, 10):
            file.write(messages(number, number + 10))

    thread = threading.Thread(target=write)
    thread.start()
    received = []
    while len(received) < total:
        received.extend(take(file))
    thread.join()
    assert received == messages(0, total)


def test_a_disk_that_becomes_full_leaves_what_was_there():
    class Disk(SpillSpace.make_file):
        room = 300_000

        def write(self, position, data):
            if position + len(data) > self.room:
                raise OSError(28, "No space left on device")
            super().write(position, data)

    class Space(SpillSpace):
        make_file = Disk

    file = SpillFile(Space())
    file.write(messages(0, 100))
    size = file.size
    with pytest.raises(OSError, match="No space"):
        file.write([*messages(100, 200), (Event.Blob, Blob(bytes(1_000_000)))])
    assert file.size == size
    Disk.room = 10_000_000
    file.write(messages(100, 101))
    assert [take(file), take(file), take(file)] == [messages(0, 100), messages(100, 101), []]


def test_wide_text_takes_no_more_memory_once_it_is_written():
    """A str keeps its UTF-8 when it was asked for that."""
    text = 100 * "😀"
    before = sys.getsizeof(text)
    file = SpillFile()
    file.write([(Event.Message, text)])
    assert sys.getsizeof(text) == before


#: Prints by how many bytes the process grew at the most while a blob was written, and then read back.
LARGE_BLOB = """
import re
from pie_sync import Blob, Event
from pie_sync._session.spill_file import SpillFile
from pie_sync._support.large_pages import filled

def peak():
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\\s+([0-9]+) kB", file.read())[1]) * 1024

file = SpillFile()
file.write([(Event.Blob, Blob(bytes(100_000)))])
file.read().clear()  # imports what it needs
before = peak()

def fill(data):
    for position in range(0, 2**28, 2**20):
        data[position : position + 2**20] = 2**20 * b"x"

blob = filled(Blob, 2**28, fill)
assert 2**28 < peak() - before < 2**28 + 2**24
before = peak()
file.write([(Event.Blob, blob)])
print(peak() - before)
del blob
[(_, back)] = file.read()
print(peak() - before)
assert len(back) == 2**28 and not back.strip(b"x")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system has to tell the peak")
def test_a_large_blob_is_never_copied_whole():
    # One of 256 MiB, in a process that has grown by that already: a second copy would show.
    result = subprocess.run([sys.executable, "-c", LARGE_BLOB], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert all(int(line) < 2**24 for line in result.stdout.split())


def test_files_that_are_collected_in_a_cycle_are_closed_without_a_warning():
    file = SpillFile(SpillSpace())
    file.write([(Event.Message, "x")])
    cycle = [file]
    cycle.append(cycle)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        del file, cycle
        gc.collect()
    assert warned == []
