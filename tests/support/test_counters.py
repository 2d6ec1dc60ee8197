"""What a client counts."""

from __future__ import annotations

import dataclasses

import pytest

from pie_sync import ClientStats, PieClient
from pie_sync._support.counters import Counters


def test_each_counter_is_a_field_of_the_stats():
    counters = vars(Counters())
    assert counters.keys() < {field.name for field in dataclasses.fields(ClientStats)}
    assert ClientStats(**counters) == ClientStats()


def test_stats_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ClientStats().messages_sent = 1  # type: ignore[misc]


def test_messages_and_bytes_are_counted_each_way(client: PieClient):
    before = client.stats()
    client.ping()
    after = client.stats()
    assert after.messages_sent == before.messages_sent + 1
    assert after.messages_received == before.messages_received + 1
    assert after.bytes_sent > before.bytes_sent
    assert after.bytes_received > before.bytes_received
    assert before.last_round_trip is None
    assert after.last_round_trip is not None
    assert after.last_round_trip > 0
