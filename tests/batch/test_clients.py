"""The clients of a worker are shared by its threads, and so are attempts to connect that fail."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pie_sync import PieClient, PieConnectionError
from pie_sync.batch import run_batch
from pie_sync.batch._clients import WorkerClients
from pie_sync.batch._servers import Endpoint
from tests.batch.batches import messages, numbers, squares


def test_threads_share_one_client(server, monkeypatch):
    clients = []
    connect = PieClient.connect
    monkeypatch.setattr(PieClient, "connect", lambda client: clients.append(client) or connect(client))
    with ThreadPoolExecutor(4) as executor:
        results = run_batch(server.uri, "square", numbers(200), executor, shard_size=10)
        assert messages(results) == squares(200)
    assert len(set(clients)) == 1
    assert clients[0].closed


@pytest.fixture
def clients():
    clients = WorkerClients()
    yield clients
    clients.close_all()


def test_a_failed_attempt_counts_for_all_that_wait_for_it(server, clients, monkeypatch):
    endpoint = Endpoint(0, server.uri, "alice")
    attempts = []

    def fail(endpoint):
        attempts.append(endpoint)
        deadline = time.monotonic() + 30
        while clients._clients["batch", 0].users < 4 and time.monotonic() < deadline:
            time.sleep(0.001)  # no event announces a thread that waits for a lock
        raise PieConnectionError("no answer") from OSError("down")

    def use(_):
        with pytest.raises(PieConnectionError, match="no answer") as caught, clients.using("batch", endpoint):
            pass
        return caught.value

    monkeypatch.setattr(Endpoint, "connect", fail)
    with ThreadPoolExecutor(4) as executor:
        errors = list(executor.map(use, range(4)))
    assert len(attempts) == 1
    assert len(set(map(id, errors))) == 4
    assert {repr(error.__cause__) for error in errors} == {"OSError('down')"}
    monkeypatch.undo()
    with clients.using("batch", endpoint) as shared:
        assert not shared.client.closed


def test_a_later_thread_makes_an_attempt_of_its_own(server, clients, monkeypatch):
    endpoint = Endpoint(0, server.uri, "alice")
    attempts = []

    def fail(endpoint):
        attempts.append(endpoint)
        raise PieConnectionError("no answer")

    monkeypatch.setattr(Endpoint, "connect", fail)
    for _ in range(2):
        with pytest.raises(PieConnectionError), clients.using("batch", endpoint):
            pass
    assert len(attempts) == 2


def test_idle_clients_of_other_batches_are_closed(server, clients):
    endpoint = Endpoint(0, server.uri, "alice")
    with clients.using("first", endpoint) as first:
        with clients.using("second", endpoint) as second:
            assert first.client is not second.client
            assert not first.client.closed
    with clients.using("second", endpoint):
        assert first.client.closed
        assert not second.client.closed
