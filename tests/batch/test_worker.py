"""The clients of the workers, their keys, and what the workers send back."""

from __future__ import annotations

import os
import pickle
import socket
import ssl
import uuid
from pathlib import Path

import pytest

from pie_sync import (
    AuthenticationError,
    InstanceFailed,
    InvalidKeyError,
    ParsedPrivateKey,
    PieClient,
    PieConnectionError,
    PieTimeoutError,
)
from pie_sync._runs.program_reference import ProgramReference
from pie_sync.batch import _worker, run_batch
from pie_sync.batch._servers import Endpoint
from pie_sync.batch._worker import (
    BatchOptions,
    Shard,
    abandon_clients,
    close_clients,
    is_lasting,
    listen,
    run_shard,
)
from tests.batch.batches import messages, numbers, processes, squares

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # a process with threads


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


def options(**more) -> BatchOptions:
    return BatchOptions(
        **{
            "batch": str(uuid.uuid4()),
            "program": ProgramReference("square", None),
            "concurrency": 2,
            "retries": 0,
            "on_error": "raise",
            **more,
        }
    )


def endpoint_of(server, number=0) -> Endpoint:
    return Endpoint(number, server.uri, "alice")


def test_a_shard_of_a_batch_that_has_ended(server):
    batch = options()
    endpoint = endpoint_of(server)
    close_clients(batch.batch)
    result = run_shard(batch, endpoint, Shard(0, [["1"]]))
    assert (str(result.error), result.outcomes) == ("the batch has ended", [])


@pytest.mark.parametrize("end", [abandon_clients, close_clients])
def test_a_batch_that_ends_during_a_shard(server, end):
    batch = options()
    endpoint = endpoint_of(server)

    def inputs():
        yield ["2"]
        end(batch.batch)
        yield ["3"]

    result = run_shard(batch, endpoint, Shard(0, inputs()))
    assert isinstance(result.error, PieConnectionError)
    assert isinstance(run_shard(batch, endpoint, Shard(1, [["4"]])).error, PieConnectionError)
    close_clients(batch.batch)


def test_a_batch_that_ends_while_its_worker_connects(server, monkeypatch):
    """A finalizer does not wait for the worker, so the worker has to look."""
    connect = PieClient.connect
    clients = []

    def connect_and_end(client):
        connect(client)
        clients.append(client)
        abandon_clients(batch.batch)

    batch = options()
    endpoint = endpoint_of(server)
    monkeypatch.setattr(PieClient, "connect", connect_and_end)
    result = run_shard(batch, endpoint, Shard(0, [["2"]]))
    assert (str(result.error), [client.closed for client in clients]) == ("the batch has ended", [True])


def test_a_client_that_can_not_authenticate_is_closed(strict_server, monkeypatch):
    connect = PieClient.connect
    clients = []
    monkeypatch.setattr(PieClient, "connect", lambda client: clients.append(client) or connect(client))
    result = run_shard(options(), endpoint_of(strict_server), Shard(0, [[]]))
    assert isinstance(result.error, AuthenticationError)
    assert [client.closed for client in clients] == [True]


def test_a_lost_client_is_replaced(server):
    batch = options()
    endpoint = endpoint_of(server)
    assert messages(run_shard(batch, endpoint, Shard(0, [["2"]])).outcomes) == ["4"]
    server.drop_connections()
    for attempt in range(3):
        result = run_shard(batch, endpoint, Shard(1, [["3"]], attempt=attempt))
        if result.error is None:
            break
    assert messages(result.outcomes) == ["9"]
    close_clients(batch.batch)


def test_a_shard_is_given_back_after_a_while(server, monkeypatch):
    monkeypatch.setattr(_worker, "_GIVE_BACK", 0.0)
    monkeypatch.setattr(_worker, "_GIVE_BACK_INSTANCES", 0.0)
    batch, shard = options(), Shard(0, [[str(number)] for number in range(100)])
    result = run_shard(batch, endpoint_of(server), shard)
    assert result.error is None
    assert 0 < len(result.outcomes) < 100
    assert messages(result.outcomes) == squares(len(result.outcomes))
    assert result.launched == len(result.outcomes)
    assert len(shard.inputs) == 100
    close_clients(batch.batch)


def test_a_shard_in_the_process_of_its_batch_hands_over_its_outcomes(server, monkeypatch):
    monkeypatch.setattr(_worker, "_GIVE_BACK", 0.0)
    monkeypatch.setattr(_worker, "_HAND_OVER_INTERVAL", 0.0)
    batch, handed_over = options(), []
    listen(batch.batch, handed_over.append)
    result = run_shard(batch, endpoint_of(server), Shard(7, list(numbers(50)), attempt=2))
    outcomes = [outcome for one in handed_over for outcome in one.outcomes] + result.outcomes
    assert messages(outcomes) == squares(50)
    assert {(one.number, one.attempt) for one in handed_over} == {(7, 2)}
    assert result.launched == 50
    close_clients(batch.batch)


def caused_by(cause):
    error = PieConnectionError("can't connect")
    error.__cause__ = cause
    return error


class Refused(Exception):
    def __init__(self, status_code):
        self.status_code = status_code


@pytest.mark.parametrize(
    ("error", "lasts"),
    [
        (PieConnectionError("refused"), False),
        (caused_by(ConnectionRefusedError()), False),
        (caused_by(socket.gaierror(socket.EAI_AGAIN, "try again")), False),
        (caused_by(socket.gaierror(socket.EAI_NONAME, "no such name")), True),
        (caused_by(ssl.SSLCertVerificationError("self-signed")), True),
        (caused_by(Refused(503)), False),
        (caused_by(Refused(301)), True),
        (caused_by(Refused(403)), True),
        (PieTimeoutError("no answer"), False),
        (AuthenticationError("who?"), True),
        (InvalidKeyError("no key"), True),
        (FileNotFoundError("key"), True),
    ],
    ids=repr,
)
def test_what_is_no_better_in_a_while(error, lasts):
    assert is_lasting(error) is lasts


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_the_clients_to_its_parent(server):
    batch = options()
    endpoint = endpoint_of(server)
    assert run_shard(batch, endpoint, Shard(0, [["2"]])).error is None
    child = os.fork()
    if not child:
        os._exit(len(_worker._clients._clients))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert messages(run_shard(batch, endpoint, Shard(1, [["3"]])).outcomes) == ["9"]
    close_clients(batch.batch)
