"""The clients of the workers, their keys, and what the workers send back."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pie_sync import AuthenticationError, InstanceFailed, InvalidKeyError, ParsedPrivateKey, PieClient
from pie_sync.batch import run_batch
from tests.batch.batches import messages, numbers, processes, squares

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # a process with threads


def test_threads_share_one_client(server, monkeypatch):
    clients = []
    connect = PieClient.connect
    monkeypatch.setattr(PieClient, "connect", lambda client: clients.append(client) or connect(client))
    with ThreadPoolExecutor(4) as executor:
        results = run_batch(server.uri, "square", numbers(200), executor, shard_size=10)
        assert messages(results) == squares(200)
    assert len(set(clients)) == 1
    assert clients[0].closed


def test_two_batches_at_once_in_the_same_workers(server):
    with processes()() as executor:
        batches = [run_batch(server.uri, "square", numbers(200), executor, shard_size=10) for _ in range(2)]
        for first, second, square in zip(*batches, squares(200)):
            assert first.message == second.message == square


@pytest.mark.parametrize("kind", [str, Path])
def test_a_key_file(strict_server, key_file, kind):
    results = run_batch(strict_server.uri, "who", [[]] * 4, processes(), username="alice", key=kind(key_file))
    assert messages(results) == ["alice"] * 4


def test_no_key(strict_server):
    with pytest.raises(AuthenticationError):
        next(run_batch(strict_server.uri, "who", [[]], processes(), username="alice"))


def test_a_worker_without_an_agent(server, monkeypatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(InvalidKeyError, match="ssh-agent"):
        next(run_batch(server.uri, "square", [["1"]], processes(), key="agent"))


def test_the_agent_of_the_worker(strict_server, private_key, monkeypatch):
    monkeypatch.setattr(ParsedPrivateKey, "from_agent", lambda: private_key, raising=False)
    results = run_batch(strict_server.uri, "who", [[]], processes(), username="alice", key="agent")
    assert messages(results) == ["alice"]


def test_what_a_worker_sends_back_can_be_pickled(client):
    with pytest.raises(InstanceFailed) as caught:
        client.launch_instance_from_registry("fail").wait(check=True)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.instance_id, copy.completed) == (caught.value.instance_id, caught.value.completed)
