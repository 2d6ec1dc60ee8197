"""The arguments of run_batch."""

from __future__ import annotations

import ssl

import pytest

from pie_sync import PieTimeoutError
from pie_sync.batch import run_batch
from tests.batch.batches import messages, numbers, processes
from tests.programs import HELLO

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # a process with threads


def test_a_relative_key_file(strict_server, key_file, monkeypatch):
    monkeypatch.chdir(key_file.parent)
    results = run_batch(strict_server.uri, "who", [[]], processes(), username="alice", key=key_file.name)
    monkeypatch.chdir("/")
    assert messages(results) == ["alice"]


def test_a_key_does_not_travel(server, private_key):
    with pytest.raises(TypeError, match="a key does not travel"):
        run_batch(server.uri, "square", [], processes(), key=private_key)


def test_a_file_is_uploaded_from_here(server, tmp_path):
    path = tmp_path / "hello.wasm"
    path.write_bytes(HELLO)
    results = run_batch(server.uri, path, [["one"], ["two"]], processes())
    path.unlink()
    assert [completed.stdout.splitlines()[0] for completed in results] == ["Hello, one!", "Hello, two!"]


def test_client_options(server):
    results = run_batch(
        server.uri, "square", numbers(2), processes(), client_options={"protocol": "instance", "timeout": 5}
    )
    assert messages(results) == ["0", "1"]


def test_a_time_limit_for_each_instance(server):
    server.program("wait-or-not")(lambda context: context.receive() if context.args[0] == "1" else "done")
    results = run_batch(
        server.uri, "wait-or-not", numbers(3), processes(), username="alice", timeout=1.5, return_exceptions=True
    )
    first, second, third = results
    assert (first.message, third.message) == ("done", "done")
    assert isinstance(second, PieTimeoutError)
    assert second.instance_id is not None  # also after its way through a pickle


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"client_options": {"ssl_context": ssl.create_default_context()}}, TypeError, "ssl_context"),
        ({"client_options": 5}, TypeError, "mapping"),
        ({"executor": 5}, TypeError, "executor must be"),
        ({"key": 5}, TypeError, "key must be"),
        ({"shard_size": 0}, ValueError, "shard_size"),
        ({"max_shards": 0}, ValueError, "max_shards"),
        ({"concurrency": 0}, ValueError, "concurrency"),
        ({"retries": -1}, ValueError, "retries"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"uri": "http://x"}, ValueError, "^uri must look like"),
        ({"username": 5}, TypeError, "username"),
        ({"program": b""}, TypeError, "program"),
        ({"inputs": 5}, TypeError, "iterable"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_mistakes_are_told_at_once(options, error, text):
    arguments = {"uri": "ws://127.0.0.1:1", "program": "square", "inputs": [], "executor": processes(), **options}
    with pytest.raises(error, match=text):
        run_batch(**arguments)


def test_a_path_in_bytes():
    class Path:
        def __fspath__(self):
            return b"key"

    with pytest.raises(TypeError, match="key must be str or os.PathLike"):
        run_batch("ws://127.0.0.1:1", "square", [], processes(), key=Path())


def test_the_home_folder_is_the_worker_s(strict_server, key_file, tmp_path, monkeypatch):
    """What is expanded here would be the home folder of another user, or of another machine."""
    (tmp_path / "id").symlink_to(key_file)
    results = run_batch(strict_server.uri, "who", [[]], processes(), username="alice", key="~/id")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert messages(results) == ["alice"]
