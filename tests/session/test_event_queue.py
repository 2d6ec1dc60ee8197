import gc
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pie_sync import Event, InstanceEnded, PieClient, PieConnectionError, PieError
from pie_sync._session import event_queue as queue_module
from pie_sync._session.event_queue import EventQueue
from pie_sync._session.spill_file import PIECE_SIZE, SpillFile
from pie_sync.testing import LocalServer
from tests.faults.test_interrupt_anywhere import InterruptAt
from tests.session.queues import drain, messages


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


# --- on disk ----------------------------------------------------------------------------------------------


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
    assert events.memory_size() < 2 * PIECE_SIZE
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
            if (file := next(iter(events._overflow), None)) is not None:
                events._load(file, None)

    thread = threading.Thread(target=spill)
    thread.start()
    try:
        assert not any(events.exhausted for _ in range(20_000))
    finally:
        over.set()
        thread.join()


def test_losses_without_an_event_between_them_are_told_together():
    events = EventQueue()
    assert [events.put_loss(2, "why") for _ in range(500)] == [True] + [False] * 499
    events.put_batch(messages(0, 1))
    assert events.put_loss(3, "why")
    for count in (1000, 3):
        with pytest.raises(PieError, match=f"{count} events are lost: why"):
            while True:
                assert events.get(block=False) == messages(0, 1)[0]


class SlowFile(SpillFile):
    """Lets a test do something while a consumer reads the disk."""

    def __init__(self, space=None) -> None:
        super().__init__(space)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def read(self):
        self.begun.set()
        assert self.go_on.wait(20)
        return super().read()


@pytest.fixture
def being_read(monkeypatch):
    """A queue from the disk of which a consumer reads; the file; and what the consumer got, once it goes on."""
    monkeypatch.setattr(queue_module, "SpillFile", SlowFile)
    events, received = EventQueue(), []
    events.put_batch(messages(0, 10))
    events.spill()
    consumer = threading.Thread(target=lambda: received.extend(events.get(timeout=20) for _ in range(10)))
    consumer.start()
    [file] = events._overflow
    assert file.begun.wait(20)
    yield events, file, received
    file.go_on.set()
    consumer.join(20)
    assert received == messages(0, 10)


def test_nobody_waits_for_a_consumer_that_reads_the_disk(being_read):
    events, file, received = being_read
    assert events.spilled_size() > 0
    assert (events.qsize(), events.memory_size(), events.empty(), events.exhausted) == (0, 0, False, False)
    events.put_batch(messages(10, 20))
    events.spill()
    events.put_error(ValueError("at its place"))
    events.put_batch(messages(20, 30))
    events.spill()
    events.end(lambda: EOFError())
    assert received == []
    file.go_on.set()
    while len(received) < 10:
        pass
    for part in events._overflow:
        if isinstance(part, SlowFile):
            part.go_on.set()
    rest = drain(events)
    assert [item for item in rest if isinstance(item, tuple)] == messages(10, 30)
    assert isinstance(rest[10], ValueError)


def test_another_consumer_keeps_its_time_limit_meanwhile(being_read):
    events, *_ = being_read
    for arguments in ({"timeout": 0.05}, {"block": False}, {"timeout": 0}):
        with pytest.raises(queue.Empty):
            events.get(**arguments)


# In a finalizer Python itself ignores it, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_anywhere_loses_nothing():
    """Ctrl-C at each step of a consumer that reads the disk: the event comes with the next call, once."""
    with ThreadPoolExecutor(1) as thread:  # see tests/faults/test_interrupt_anywhere.py
        thread.submit(interrupt_everywhere).result()


def interrupt_everywhere() -> None:
    number, place = 0, "the beginning"
    while place:
        number += 1
        events, received = EventQueue(), []
        events.put_batch(messages(0, 3))
        events.put_batch([(Event.Message, 100_000 * "x")])
        events.put_batch(messages(3, 6))
        events.spill()
        with InterruptAt(number, KeyboardInterrupt()) as interrupt:
            try:
                for _ in range(7):
                    # Kept in the same step in which it is returned, or it would be lost here.
                    received.extend(map(events.get, (False,)))
            except KeyboardInterrupt:
                pass
        place = interrupt.place
        events.end(lambda: EOFError())
        received += drain(events)
        expected = [*messages(0, 3), (Event.Message, 100_000 * "x"), *messages(3, 6)]
        missing = [item for item in expected if item not in received]
        # What get() had taken when the signal came is lost with it: one event, in the last step of all.
        assert len(missing) <= 1, place
        assert received == [item for item in expected if item not in missing], place
        assert not missing or place.endswith((" get", " _get_slowly", " _take", " _notify")), place
    assert number > 100, "hardly anything was interrupted"


# --- without room on the disk -------------------------------------------------------------------------------


def losses_and_items(events: EventQueue):
    """Everything up to the end; a loss as the number of events that are lost."""
    result = []
    while True:
        try:
            result.append(events.get(block=False))
        except EOFError:
            return result
        except PieError as error:
            result.append(int(str(error).split()[0]))


def test_the_newest_are_cut_off_and_the_end_stays():
    events = EventQueue()
    events.put_batch(messages(0, 100))
    events.put_error(PieError("7 of another kind"))
    events.put_batch(messages(100, 200))
    events.put_batch([(Event.Completed, "result")])
    events.end(lambda: EOFError())
    size = events.memory_size()
    assert events.cut(size, "why") == 0
    lost = events.cut(size // 4, "why")
    assert events.memory_size() <= size // 4 + 200  # the end does not count
    assert lost > 140
    kept = 200 - lost
    lost_later = events.cut(size // 8, "why")
    assert losses_and_items(events) == [
        *messages(0, kept - lost_later),
        lost - 100 + lost_later,
        7,
        100,
        (Event.Completed, "result"),
    ]


def test_losses_next_to_each_other_are_told_together():
    events = EventQueue()
    events.put_batch(messages(0, 10))
    events.put_loss(5, "why")
    assert events.cut(0, "why") == 10
    events.end(lambda: EOFError())
    assert losses_and_items(events) == [15]


def test_what_is_on_disk_is_not_cut_off():
    events = EventQueue()
    events.put_batch(messages(0, 10))
    events.spill()
    events.put_batch(messages(10, 20))
    assert events.get() == messages(0, 1)[0]  # 1 to 9 are in memory now
    assert events.cut(0, "why") == 9
    events.end(lambda: EOFError())
    assert losses_and_items(events) == [9, *messages(10, 20)]


@pytest.mark.parametrize("method", ["join", "task_done", "shutdown"])
def test_methods_of_a_queue_that_do_not_apply_say_so(method):
    with pytest.raises(NotImplementedError, match="a queue of events"):
        getattr(EventQueue(), method)()


def test_the_other_methods_of_a_queue_work():
    events = EventQueue()
    assert (events.empty(), events.full(), events.qsize()) == (True, False, 0)
    events.put((Event.Message, "one"))
    events.put_nowait((Event.Stdout, "two"))
    assert (events.empty(), events.full(), events.qsize()) == (False, False, 2)
    assert events.get_nowait() == (Event.Message, "one")
    events.spill()
    assert (events.empty(), events.qsize()) == (False, 0), "what is on disk is there, but not in memory"
    assert events.get() == (Event.Stdout, "two")
    with pytest.raises(queue.Empty):
        events.get_nowait()


def test_whoever_received_the_terminal_event_finds_the_queue_exhausted():
    """The consumer is as quick as can be: it looks the moment that the event is in the deque."""
    terminal = (Event.Completed, "done")
    for _ in range(2000):
        events, seen = EventQueue(), []

        def consume(events=events, seen=seen):
            while not seen:
                try:
                    seen.append(events.queue.popleft())
                except IndexError:
                    pass
            seen.append(events.terminal is not None and events.exhausted)

        consumer = threading.Thread(target=consume)
        consumer.start()
        events.end(lambda: EOFError(), terminal)
        consumer.join()
        assert seen == [terminal, True]


# --- all at once --------------------------------------------------------------------------------------------


def ended(reason=InstanceEnded):
    return reason("over")


def test_all_events_of_an_ended_instance():
    events = EventQueue()
    events.put_batch([(Event.Message, "a"), (Event.Stdout, "b")])
    events.end(ended, (Event.Completed, "c"))
    assert events.drain() == [(Event.Message, "a"), (Event.Stdout, "b"), (Event.Completed, "c")]
    assert events.exhausted
    assert events.drain() == []


def test_all_events_of_which_some_are_on_disk():
    events = EventQueue()
    events.put_batch([(Event.Message, "a")])
    events.spill()
    events.put_batch([(Event.Message, "b")])
    events.end(ended, (Event.Completed, "c"))
    assert events.drain() == [(Event.Message, "a"), (Event.Message, "b"), (Event.Completed, "c")]


def test_an_error_among_them_is_raised():
    events = EventQueue()
    events.put_error(ValueError("wrong"))
    events.end(ended, (Event.Completed, "c"))
    with pytest.raises(ValueError, match="wrong"):
        events.drain()
    assert events.drain() == [(Event.Completed, "c")]


def test_another_end_than_that_of_the_instance_is_raised_also_when_that_comes_after_it():
    for terminal in (None, (Event.Completed, "c")):
        events = EventQueue()
        events.end(lambda: ended(PieConnectionError))
        if terminal is not None:
            events.end(ended, terminal)
        assert not events.is_whole
        with pytest.raises(PieConnectionError):
            events.drain()
