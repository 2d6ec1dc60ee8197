"""Which server gets the next shard, and what becomes of servers that are not there."""

from __future__ import annotations

import logging

import pytest

from pie_sync import PieConnectionError
from pie_sync.batch import _server_pool
from pie_sync.batch._server_pool import ServerPool
from pie_sync.batch._servers import Endpoint

LOST = PieConnectionError("connection refused")


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(_server_pool, "monotonic", lambda: now[0])
    return now


def pool_of(count=3, patience=60.0, shards_each=None) -> ServerPool:
    return ServerPool([Endpoint(n, f"ws://{'abc'[n]}", "alice") for n in range(count)], patience, shards_each)


def place(pool, count):
    """Start so many shards, and return how many each server has under way."""
    for _ in range(count):
        pool.started(pool.choose(), 10)
    return [server.shards for server in pool.servers]


def test_nothing_is_known_at_the_beginning(clock):
    assert place(pool_of(), 6) == [2, 2, 2]


def test_by_shards_under_way_and_speed(clock):
    pool = pool_of()
    for server, seconds in zip(pool.servers, (1.0, 2.0, 10.0)):
        pool.started(server, 10)
        pool.ended(server, 10, 10)
        pool.reached(server, 10, seconds)
    assert place(pool, 16) == [10, 5, 1]
    assert [status.per_second for status in pool.status()] == [10.0, 5.0, 1.0]
    assert [status.running for status in pool.status()] == [100, 50, 10]
    assert [status.done for status in pool.status()] == [10, 10, 10]


def test_a_server_that_becomes_slow_gets_less(clock):
    pool = pool_of(2)
    for server in pool.servers:
        pool.reached(server, 100, 1.0)
    assert place(pool, 4) == [2, 2]
    for _ in range(10):
        pool.reached(pool.servers[0], 10, 1.0)
    assert place(pool, 4)[1] == 6


def test_no_more_than_each_may_have(clock):
    pool = pool_of(2, shards_each=2)
    assert place(pool, 4) == [2, 2]
    assert pool.choose() is None


def test_a_lost_server_is_tried_with_one_shard_after_growing_pauses(clock, caplog):
    pool = pool_of(2)
    lost, other = pool.servers
    pool.reached(other, 1, 1.0)
    pauses = []
    with caplog.at_level(logging.INFO, "pie_sync.batch"):
        for _ in range(9):
            pool.lost(lost, LOST, was_there=False)
            assert pool.unreachable() == ("ws://a",)
            begin = clock[0]
            while pool.choose() is other:
                clock[0] += 0.25
            pauses.append(clock[0] - begin)
        assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
        pool.started(lost, 10)
        assert pool.choose() is other  # until that shard tells how it is
        pool.ended(lost, 10, 10)
        pool.reached(lost, 10, 1.0)
    assert pool.choose() is lost
    assert pool.unreachable() == ()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 10
    assert "ws://a is not there, its shards go to the other servers; next attempt in 0.5 s" in messages[0]
    assert "connection refused" in messages[0]
    assert messages[-1] == "ws://a is there again"


def test_many_shards_that_are_lost_at_once_are_one_loss(clock):
    pool = pool_of(2)
    pool.reached(pool.servers[1], 1, 1.0)
    for _ in range(5):
        pool.lost(pool.servers[0], LOST, was_there=True)
    assert pool.servers[0].losses == 1
    assert pool.status()[0].error == "connection refused"


def test_none_at_the_beginning(clock):
    pool = pool_of(2)
    pool.lost(pool.servers[0], LOST, was_there=False)
    with pytest.raises(PieConnectionError, match="refused"):
        pool.lost(pool.servers[1], LOST, was_there=False)


def test_none_for_too_long(clock):
    pool = pool_of(2, patience=60.0)
    pool.lost(pool.servers[0], LOST, was_there=True)
    clock[0] += 1000
    pool.check()
    pool.lost(pool.servers[1], LOST, was_there=True)
    clock[0] += 60
    pool.check()
    clock[0] += 1
    with pytest.raises(PieConnectionError, match="no server was there for 60 s; the last was ws://b: connection"):
        pool.check()


def test_patience_for_ever(clock):
    pool = pool_of(1, patience=None)
    pool.lost(pool.servers[0], LOST, was_there=True)
    clock[0] += 1e9
    pool.check()


def test_how_many_may_be_under_way():
    assert pool_of(3).most_under_way(8) == 11
    assert pool_of(3).most_under_way(None) is None
    assert pool_of(1).most_under_way(8) is None
