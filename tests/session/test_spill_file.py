"""Events on disk, as bytes in temporary files."""

from __future__ import annotations

from pie_sync import Blob, Event
from pie_sync._session.event_queue import EventQueue
from pie_sync._session.spill_file import SpillFile, SpillSpace
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
