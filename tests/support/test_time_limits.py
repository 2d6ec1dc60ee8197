"""Time limits: timeouts, deadlines, and locks that are acquired within them."""

from __future__ import annotations

import threading
from time import monotonic

import pytest

from pie_sync import PieTimeoutError, PieValueError
from pie_sync._support.time_limits import (
    DEFAULT,
    LONGEST,
    TimeLimit,
    acquire,
    check_polling_timeout,
    check_timeout,
    deadline_after,
    remaining,
    time_left,
)


@pytest.mark.parametrize(
    ("timeout", "checked"),
    [(None, None), (0, 0), (0.5, 0.5), (LONGEST, LONGEST), (LONGEST + 1, None), (float("inf"), None)],
)
def test_timeouts_that_make_sense(timeout, checked):
    assert check_polling_timeout(timeout) == checked
    if timeout != 0:
        assert check_timeout(timeout) == checked


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0])
def test_no_time_at_all(timeout):
    with pytest.raises(PieValueError, match="^patience must be more than 0 seconds") as caught:
        check_timeout(timeout, "patience", zero="have some")
    assert caught.value.hint == "have some"


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError), (DEFAULT, TypeError)],
)
def test_timeouts_that_make_none(timeout, error):
    with pytest.raises(error, match="^patience must"):
        check_timeout(timeout, "patience")
    with pytest.raises(error, match="^patience must"):
        check_polling_timeout(timeout, "patience")


def test_a_deadline_and_what_is_left():
    before = monotonic()
    deadline = deadline_after(100)
    assert deadline is not None
    assert before + 100 <= deadline <= monotonic() + 100
    left = time_left(deadline)
    assert left is not None
    assert 99 < left <= 100
    assert 99 < remaining(deadline) <= 100
    assert time_left(before - 1) == remaining(before - 1) == 0


def test_no_limit():
    assert deadline_after(None) is None
    assert time_left(None) is None
    assert remaining(None) == -1
    assert TimeLimit(None).deadline() is None
    assert TimeLimit(None).left() is None
    assert TimeLimit(None, stall=True).left() is None


def test_what_is_left_is_never_too_long_for_a_lock():
    assert threading.Lock().acquire(timeout=remaining(monotonic() + 2 * threading.TIMEOUT_MAX))


def test_the_limit_of_a_call_is_for_all_of_its_steps():
    limit = TimeLimit(100)
    deadline = limit.deadline()
    threading.Event().wait(0.01)
    assert limit.deadline() == deadline
    left = limit.left()
    assert left is not None
    assert left <= 99.99


def test_the_limit_without_progress_begins_anew_with_each_step():
    limit = TimeLimit(100, stall=True)
    deadline = limit.deadline()
    threading.Event().wait(0.01)
    assert deadline is not None
    assert (limit.deadline() or 0) >= deadline + 0.01


def test_the_error_says_what_is_over():
    error = TimeLimit(0.5).expired("ping", "no answer")
    assert isinstance(error, PieTimeoutError)
    assert str(error) == "ping: no answer within 0.5 s"
    error = TimeLimit(0.5, stall=True).expired("upload_blob", "no answer")
    assert str(error) == "upload_blob: no progress for 0.5 s: no answer"


@pytest.mark.parametrize("new", [threading.Lock, threading.RLock])
def test_acquiring(new):
    lock = new()
    acquired: list[bool] = []
    assert acquire(lock, None, acquired)
    assert acquired == [True]
    refused: list[list[bool]] = []

    def try_to(timeout: float) -> None:
        result: list[bool] = []
        begin = monotonic()
        assert not acquire(lock, begin + timeout, result)
        assert monotonic() - begin >= timeout
        refused.append(result)

    for timeout in (0, 0.1):
        thread = threading.Thread(target=try_to, args=(timeout,))
        thread.start()
        thread.join()
    assert len(refused) == 2
    assert not any(True in result for result in refused)
    lock.release()


def test_acquiring_waits_until_the_lock_is_free():
    lock = threading.Lock()
    lock.acquire()
    threading.Timer(0.1, lock.release).start()
    acquired: list[bool] = []
    assert acquire(lock, monotonic() + 30, acquired)
    assert acquired[-1]


def test_the_default_has_a_name():
    assert repr(DEFAULT) == "DEFAULT"


@pytest.mark.parametrize(
    ("mine", "other", "is_mine"),
    [(1, 2, True), (2, 1, False), (None, 1, False), (1, None, True), (None, None, True)],
)
def test_the_earlier_of_two_limits(mine, other, is_mine):
    limits = TimeLimit(mine), TimeLimit(other, stall=True)
    assert limits[0].earlier(limits[1]) is limits[0 if is_mine else 1]
