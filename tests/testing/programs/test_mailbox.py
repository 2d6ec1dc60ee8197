"""What waits in a mailbox, in which order it is taken, and how a wait ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from pie_sync.testing._programs.mailbox import Mailbox, Terminated
from tests.testing.raw import PATIENCE


@pytest.fixture
def taken() -> list[str | bytes]:
    return []


@pytest.fixture
def mailbox(taken: list[str | bytes]) -> Mailbox:
    return Mailbox(taken.append)


@pytest.fixture
def background() -> Iterator[Callable[..., Future[object]]]:
    with ThreadPoolExecutor() as executor:
        yield executor.submit


def test_messages_and_blobs_have_an_order_of_their_own(mailbox: Mailbox, taken: list[str | bytes]) -> None:
    for message in ("one", "two"):
        mailbox.put_message(message)
        mailbox.put_blob(message.encode())
    assert mailbox.has_message
    assert [mailbox.get_blob(), mailbox.get_message(), mailbox.get_message(), mailbox.get_blob()] == [
        b"one",
        "one",
        "two",
        b"two",
    ]
    assert not mailbox.has_message
    assert taken == [b"one", "one", "two", b"two"]


@pytest.mark.parametrize("timeout", [0, -1, -math.inf, 0.01])
def test_a_wait_has_a_time_limit(mailbox: Mailbox, taken: list[str | bytes], timeout: float) -> None:
    with pytest.raises(TimeoutError, match=f"no message within {timeout} s"):
        mailbox.get_message(timeout)
    with pytest.raises(TimeoutError, match=f"no blob within {timeout} s"):
        mailbox.get_blob(timeout)
    mailbox.wait(timeout, for_message=True)
    assert taken == []


@pytest.mark.parametrize("timeout", [None, math.inf])
def test_whatever_comes_ends_a_wait(
    mailbox: Mailbox, background: Callable[..., Future[object]], timeout: float | None
) -> None:
    message, blob = background(mailbox.get_message, timeout), background(mailbox.get_blob, timeout)
    mailbox.put_blob(b"blob")
    mailbox.put_message("message")
    assert (message.result(PATIENCE), blob.result(PATIENCE)) == ("message", b"blob")
    waiting = background(mailbox.wait, timeout, for_message=True)
    mailbox.put_message("another")
    waiting.result(PATIENCE)
    assert mailbox.get_message() == "another"


def test_a_sleep_is_not_ended_by_a_message(mailbox: Mailbox) -> None:
    mailbox.put_message("message")
    started = time.monotonic()
    mailbox.wait(0.05, for_message=False)
    assert time.monotonic() - started >= 0.05


def test_closing_ends_every_wait_for_good(mailbox: Mailbox, background: Callable[..., Future[object]]) -> None:
    mailbox.put_message("left behind")
    waits = [
        background(mailbox.get_blob),
        background(mailbox.wait, None, for_message=False),
        background(mailbox.get_blob, PATIENCE),
    ]
    mailbox.close()
    for wait in waits:
        assert isinstance(wait.exception(PATIENCE), Terminated)
    for call in (mailbox.get_message, mailbox.get_blob):
        with pytest.raises(Terminated):
            call()
    assert not mailbox.put_blob_if_awaited(b"blob", PATIENCE)


def test_a_blob_is_added_for_each_thread_that_waits_for_one(
    mailbox: Mailbox, background: Callable[..., Future[object]]
) -> None:
    mailbox.has_sent_output = True
    blobs = [background(mailbox.get_blob, PATIENCE) for _ in range(2)]
    assert mailbox.put_blob_if_awaited(b"1", PATIENCE)
    mailbox.has_sent_output = True  # the one that took the first blob has sent something
    assert mailbox.put_blob_if_awaited(b"2", PATIENCE)
    assert {blob.result(PATIENCE) for blob in blobs} == {b"1", b"2"}
    assert not mailbox.put_blob_if_awaited(b"3", PATIENCE)  # it has sent nothing since


def test_a_blob_is_dropped_as_soon_as_the_program_waits_for_a_message(
    mailbox: Mailbox, background: Callable[..., Future[object]]
) -> None:
    mailbox.has_sent_output = True
    offer = background(mailbox.put_blob_if_awaited, b"blob", PATIENCE)
    message = background(mailbox.get_message, PATIENCE)
    started = time.monotonic()
    assert offer.result(PATIENCE) is False
    assert time.monotonic() - started < PATIENCE / 2
    mailbox.put_message("message")
    assert message.result(PATIENCE) == "message"
