"""progress=: a function that is told how far a batch is, or a bar."""

import dataclasses
import signal
import subprocess
import sys

import pytest

from pie_sync import BatchProgress
from pie_sync._runs import progress
from pie_sync._runs.progress import ProgressMeter


@pytest.fixture(autouse=True)
def square(server):
    @server.program("square")
    def square(context):
        return str(int(context.args[0]) ** 2)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def inputs(count):
    return [[str(number)] for number in range(count)]


def test_a_function_is_told_the_end(client):
    told = []
    assert len(list(client.map("square", [*inputs(20), ["no"]], on_error="yield", progress=told.append))) == 21
    last = told[-1]
    assert (last.done, last.failed, last.running, last.total) == (21, 1, 0, 21)
    assert last.per_second > 0
    assert last.seconds_left == 0
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert told[0].running > 0


def test_the_total_of_a_generator_is_not_known(client):
    told = []
    list(client.map("square", (args for args in inputs(3)), progress=told.append))
    assert (told[-1].done, told[-1].total, told[-1].seconds_left) == (3, None, None)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BatchProgress(1, 0, 0, None, 0.0, None).done = 2


def test_what_it_raises_ends_the_map(client):
    def stop(progress):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        list(client.map("square", inputs(3), progress=stop))


def test_at_most_every_tenth_of_a_second(clock):
    told = []
    meter = ProgressMeter(told.append, inputs(1000))
    meter.tell(5)
    for _ in range(10):
        clock[0] += 0.04
        for _ in range(10):
            meter.count(failed=False)
            meter.tell(5)
    assert len(told) == 1 + 3
    meter.close()
    assert told[-1] == BatchProgress(100, 0, 0, 1000, pytest.approx(250), pytest.approx(3.6))
    meter.close()
    assert len(told) == 5


def test_what_was_kept_does_not_count_for_the_rate(clock):
    told = []
    meter = ProgressMeter(told.append, inputs(100))
    meter.tell(0)
    for number in range(60):
        meter.count(failed=number == 0, kept=number < 50)
    clock[0] += 5
    meter.tell(3)
    assert told[-1] == BatchProgress(60, 1, 3, 100, 2.0, 20.0)


def test_nothing_is_told_twice(clock):
    told = []
    meter = ProgressMeter(told.append)
    for _ in range(5):
        clock[0] += 1
        meter.tell(2)
    assert len(told) == 1


def test_a_bar(client, capsys):
    list(client.map("square", [*inputs(5), ["no"]], on_error="skip", progress=True))
    shown = capsys.readouterr().err
    assert "6/6" in shown
    assert "failed=1" in shown


def test_a_bar_in_a_notebook():
    """tqdm.auto decides by the shell that runs; without widgets it says what is missing."""
    program = (
        "import sys, types, warnings; warnings.simplefilter('ignore')\n"
        "from pie_sync._runs.progress import ProgressMeter\n"
        "meter = ProgressMeter(True, [1, 2]); meter.tell(0); meter.count(failed=False); meter.close()\n"
        "from tqdm.auto import tqdm\n"
        "print(isinstance(meter._bar, type(None)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "1/2" in done.stderr


def test_without_tqdm(client, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"pip install 'pie-sync\[progress\]'"):
        client.map("square", inputs(1), progress=True)


@pytest.mark.parametrize("wrong", [1, "yes", []])
def test_anything_else_is_refused(client, wrong):
    with pytest.raises(TypeError, match="progress must be"):
        client.map("square", inputs(1), progress=wrong)


def failing(told, *, when):
    def function(progress):
        told.append(progress)
        if when(progress):
            raise LookupError(f"number {len(told)}")

    return function


def test_what_it_raises_at_the_last_state_is_logged(client, caplog):
    told = []
    results = client.map("square", inputs(20), progress=failing(told, when=lambda progress: not progress.running))
    assert len(list(results)) == 20
    assert told[-1].done == 20
    [record] = [record for record in caplog.records if record.name == "pie_sync.protocol"]
    assert "the function that is told the progress has failed" in record.getMessage()
    assert record.exc_info[0] is LookupError


def test_closing_does_not_raise_what_it_raises(client, caplog):
    results = client.map("square", inputs(20), progress=failing([], when=lambda progress: not progress.running))
    next(results)
    results.close()
    assert "the function that is told the progress has failed" in caplog.text


def test_one_that_always_fails_is_called_once(client, caplog):
    told = []
    with pytest.raises(LookupError, match="number 1"):
        list(client.map("square", inputs(20), progress=failing(told, when=lambda progress: True)))
    assert len(told) == 1
    assert caplog.text == ""


def test_what_a_signal_handler_raises_at_the_last_state_is_raised():
    def interrupt(progress):
        signal.raise_signal(signal.SIGINT)

    meter = ProgressMeter(interrupt)
    meter.count(failed=False)
    with pytest.raises(KeyboardInterrupt):
        meter.close()

    def handler(signum, frame):
        raise LookupError("of the handler")

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(LookupError, match="of the handler"):
            ProgressMeter(interrupt).close()
    finally:
        signal.signal(signal.SIGINT, before)
