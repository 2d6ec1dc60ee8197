"""Interruptions that wait for the right moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from pie_sync import PieClient
from pie_sync.cli._interruption import Patience

from .conftest import LIMIT


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGALRM]
    before = [signal.getsignal(signum) for signum in signals]
    yield
    assert [signal.getsignal(signum) for signum in signals] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_it_comes_when_it_may() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with Patience() as patience:
            with patience.hold():
                signal.raise_signal(signal.SIGINT)
                steps.append("whole")
            threading.Event().wait(LIMIT)
            steps.append("too late")
    assert steps == ["whole"]


def test_a_second_one_does_not_wait() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with Patience() as patience, patience.hold():
            signal.raise_signal(signal.SIGINT)
            steps.append("whole")
            signal.raise_signal(signal.SIGINT)
            steps.append("too late")
    assert steps == ["whole"]


def test_it_is_not_forgotten_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt):
        with Patience() as patience:
            with patience.hold():
                signal.raise_signal(signal.SIGINT)


def test_without_need_it_comes_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        with Patience():
            signal.raise_signal(signal.SIGINT)
            pytest.fail("too late")


def test_a_message_to_the_server_is_sent_whole(client: PieClient) -> None:
    instance = client.launch_instance_from_registry("sleep-until-told")
    main = threading.main_thread().ident
    # Not an Event: one whose set() is interrupted may stay locked for ever. This can't be interrupted.
    begun: SimpleQueue[None] = SimpleQueue()

    def interrupt() -> None:
        begun.get(timeout=LIMIT)
        signal.pthread_kill(main, signal.SIGINT)

    for attempt in range(30):
        begun = SimpleQueue()
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            with Patience():
                while True:  # until it's interrupted, wherever that is
                    instance.upload_blob(
                        bytes(2**20) + bytes([attempt]), progress=lambda *_, begun=begun: begun.put(None)
                    )
        thread.join()
        assert client.ping() < LIMIT
