import gc
import queue
import threading

import pytest

from pie_sync import Event, PieClient
from pie_sync._session.event_queue import EventQueue
from pie_sync.testing import LocalServer


def item(number: int):
    return (Event.Message, str(number))


def test_is_a_queue():
    events = EventQueue()
    assert isinstance(events, queue.Queue)
    events.put_batch([item(1), item(2)])
    assert events.qsize() == 2
    assert [events.get(), events.get_nowait()] == [item(1), item(2)]
    with pytest.raises(queue.Empty):
        events.get_nowait()
    with pytest.raises(queue.Empty):
        events.get(timeout=0)


def test_the_garbage_collector_has_nothing_to_do_with_messages():
    with LocalServer() as server, PieClient(server.uri) as client:

        @server.program("talker")
        def talker(instance):
            for number in range(1000):
                instance.send(str(number))
            instance.receive()

        client.authenticate("alice")
        instance = client.launch_instance_from_registry("talker")
        while client.stats().events_queued[instance.id] < 1000:
            client.ping()
        assert not any(map(gc.is_tracked, instance._events.queue))
        assert [instance.recv() for _ in range(1000)] == [item(number) for number in range(1000)]


def test_errors_and_the_end_keep_their_place():
    events = EventQueue()
    events.put_batch([item(1)])
    events.put_error(ValueError("first"))
    events.put_batch([item(2)])
    events.put_error(ValueError("second"))
    events.put_batch([item(3)])
    events.end(lambda: EOFError())
    events.end(lambda: KeyError("a second end is no end"))
    assert events.get() == item(1)
    with pytest.raises(ValueError, match="first"):
        events.get()
    assert events.get() == item(2)
    assert not events.exhausted
    with pytest.raises(ValueError, match="second"):
        events.get()
    assert events.get() == item(3)
    assert events.exhausted
    for _ in range(2):
        with pytest.raises(EOFError):
            events.get()


def test_errors_are_bounded():
    events = EventQueue()
    for number in range(EventQueue.MAX_ERRORS + 50):
        events.put_error(ValueError(number))
    events.end(lambda: EOFError())
    seen = 0
    with pytest.raises(EOFError):
        while True:
            try:
                events.get()
            except ValueError:
                seen += 1
    assert seen == EventQueue.MAX_ERRORS


def test_the_end_wakes_everybody():
    events = EventQueue()
    ended = queue.Queue()

    def consume():
        try:
            events.get(timeout=30)
        except EOFError as error:
            ended.put(error)

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    events.end(lambda: EOFError())
    errors = [ended.get(timeout=10) for _ in threads]
    for thread in threads:
        thread.join()
    assert len({id(error) for error in errors}) == 4, "each gets an exception of its own"


def put_directly(events: EventQueue, items):
    """What the reader thread does: of a message it puts in the text alone."""
    wanted = False
    for event, text in items:
        events.queue.append(text if event is Event.Message else (event, text))
        wanted = wanted or bool(events.waiting)
    if wanted:
        events.notify()


@pytest.mark.parametrize("put", [EventQueue.put_batch, put_directly])
def test_every_event_goes_to_exactly_one_consumer_in_order(put):
    events = EventQueue()
    total, consumers = 20_000, 4
    received = [[] for _ in range(consumers)]

    def consume(mine):
        while True:
            try:
                mine.append(int(events.get(timeout=30)[1]))
            except EOFError:
                return

    threads = [threading.Thread(target=consume, args=(mine,)) for mine in received]
    for thread in threads:
        thread.start()
    for start in range(0, total, 7):
        put(events, [item(number) for number in range(start, min(start + 7, total))])
    events.end(lambda: EOFError())
    for thread in threads:
        thread.join()
    assert sorted(sum(received, [])) == list(range(total))
    assert all(mine == sorted(mine) for mine in received)
