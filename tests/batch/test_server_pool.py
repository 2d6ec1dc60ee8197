"""Which server gets the next shard, and what becomes of servers that are not there."""

from __future__ import annotations

import logging

import pytest

from pie_sync import AuthenticationError, LaunchError, PieConnectionError
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


def run(pool, server, count, seconds):
    """Run a shard."""
    period = pool.started(server, count)
    pool.has_outcomes(server, count)
    pool.ended(server, 0, period)
    pool.reached(server, count, seconds, period)


def lose(pool, place, error=LOST, **how):
    """Start a shard, and lose it with its server."""
    server = pool.servers[place]
    period = pool.started(server, 10)
    pool.ended(server, 10, period)
    pool.lost(server, error, period, **how)


def test_nothing_is_known_at_the_beginning(clock):
    assert place(pool_of(), 6) == [2, 2, 2]


def test_by_shards_under_way_and_speed(clock):
    pool = pool_of()
    for server, seconds in zip(pool.servers, (1.0, 2.0, 10.0)):
        run(pool, server, 10, seconds)
    assert place(pool, 16) == [10, 5, 1]
    assert [status.per_second for status in pool.status()] == [10.0, 5.0, 1.0]
    assert [status.running for status in pool.status()] == [100, 50, 10]
    assert [status.done for status in pool.status()] == [10, 10, 10]


def test_a_server_that_becomes_slow_gets_less(clock):
    pool = pool_of(2)
    for server in pool.servers:
        run(pool, server, 100, 1.0)
    assert place(pool, 4) == [2, 2]
    for _ in range(10):
        run(pool, pool.servers[0], 10, 1.0)
    assert place(pool, 4)[1] == 6


def test_no_more_than_each_may_have(clock):
    pool = pool_of(2, shards_each=2)
    assert place(pool, 4) == [2, 2]
    assert pool.choose() is None


def test_a_lost_server_is_tried_with_one_shard_after_growing_pauses(clock, caplog):
    pool = pool_of(2)
    lost, other = pool.servers
    run(pool, other, 1, 1.0)
    pauses = []
    with caplog.at_level(logging.INFO, "pie_sync.batch"):
        for _ in range(9):
            lose(pool, 0)
            assert pool.unreachable() == ("ws://a",)
            begin = clock[0]
            while pool.choose() is other:
                clock[0] += 0.25
            pauses.append(clock[0] - begin)
        assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
        period = pool.started(lost, 10)
        assert pool.choose() is other  # until that shard tells how it is
        pool.has_outcomes(lost, 10)
        pool.ended(lost, 0, period)
        pool.reached(lost, 10, 1.0, period)
    assert pool.choose() is lost
    assert pool.unreachable() == ()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 10
    assert "ws://a is not there, its shards go to the other servers; next attempt in 0.5 s" in messages[0]
    assert "connection refused" in messages[0]
    assert messages[-1] == "ws://a is there again"


def test_many_shards_that_are_lost_at_once_are_one_loss(clock):
    """Also if the last of them finds out long after the next attempt was due."""
    pool = pool_of(2)
    run(pool, pool.servers[1], 1, 1.0)
    lost = pool.servers[0]
    periods = [pool.started(lost, 10) for _ in range(5)]
    for period in periods:
        pool.ended(lost, 10, period)
        pool.lost(lost, LOST, period)
        clock[0] += 10
    assert lost.losses == 1
    assert pool.status()[0].error == "connection refused"


def test_a_shard_from_before_the_loss_does_not_bring_a_server_back(clock, caplog):
    pool = pool_of(2)
    lost = pool.servers[0]
    before = [pool.started(lost, 10) for _ in range(2)]
    with caplog.at_level(logging.INFO, "pie_sync.batch"):
        pool.ended(lost, 10, before[0])
        pool.lost(lost, LOST, before[0])
        pool.has_outcomes(lost, 10)
        pool.ended(lost, 0, before[1])
        pool.reached(lost, 10, 1.0, before[1])
        assert pool.unreachable() == ("ws://a",)
        clock[0] += 1
        lose(pool, 0)
    assert [" 0.5 s" in record.getMessage() for record in caplog.records] == [True, False]
    assert lost.losses == 2


def test_shards_from_before_the_loss_do_not_delay_the_next_attempt(clock):
    pool = pool_of(1)
    periods = [pool.started(pool.servers[0], 10) for _ in range(2)]
    pool.ended(pool.servers[0], 10, periods[0])
    pool.lost(pool.servers[0], LOST, periods[0])
    clock[0] += 1
    assert pool.choose() is pool.servers[0]


def test_none_for_too_long(clock):
    pool = pool_of(2, patience=60.0)
    lose(pool, 0)
    clock[0] += 1000
    pool.check()
    lose(pool, 1)
    clock[0] += 60
    pool.check()
    clock[0] += 1
    with pytest.raises(PieConnectionError, match="no server was there for 60 s; the last was ws://b: connection"):
        pool.check()


def test_patience_for_ever(clock):
    pool = pool_of(1, patience=None)
    lose(pool, 0)
    clock[0] += 1e9
    pool.check()


def test_what_can_not_heal_does_not_wait(clock):
    pool = pool_of(2)
    lose(pool, 0, AuthenticationError("who?"), is_lasting=True)
    clock[0] += 1
    with pytest.raises(AuthenticationError, match="no"):
        lose(pool, 1, AuthenticationError("no"), is_lasting=True)


def test_what_may_heal_is_waited_for(clock):
    pool = pool_of(2)
    lose(pool, 0, AuthenticationError("who?"), is_lasting=True)
    lose(pool, 1)
    clock[0] += 60
    pool.check()


def test_a_server_that_refuses_the_program_is_set_aside_while_another_does_better(clock, caplog):
    pool = pool_of(2)
    other = pool.servers[1]
    refusal = LaunchError("launch", "not found")
    assert pool.may_move
    with caplog.at_level(logging.INFO, "pie_sync.batch"):
        lose(pool, 0, refusal, is_lasting=True, refuses_program=True)
        assert pool.choose() is other
        assert pool.status()[0].error == str(refusal)
        lose(pool, 1, refusal, is_lasting=True, refuses_program=True)
        assert not pool.may_move
        assert place(pool, 4) == [2, 2]
        clock[0] += 1
        pool.reached(other, 0, 1.0, other.period)
        assert not pool.may_move
        pool.reached(other, 10, 1.0, other.period)
    assert pool.may_move
    assert pool.unreachable() == ("ws://a",)
    assert "ws://a can't be used, its shards go to the other servers" in caplog.records[0].getMessage()


def test_failed_launches_are_no_speed(clock):
    pool = pool_of(2)
    pool.reached(pool.servers[0], 0, 0.001, 0)
    assert pool.status()[0].per_second is None


def test_the_only_server_is_asked_for_its_refusals():
    assert not pool_of(1).may_move


def test_how_many_may_be_under_way():
    assert pool_of(3).most_under_way(8) == 11
    assert pool_of(3).most_under_way(None) is None
    assert pool_of(1).most_under_way(8) is None
