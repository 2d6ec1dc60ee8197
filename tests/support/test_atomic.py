"""Without an interpreter lock nothing takes the fast path, and everything arrives all the same."""

import importlib
import sys

import pytest

from pie_sync import Event, PieClient
from pie_sync._session import event_queue
from pie_sync._support import atomic


@pytest.mark.parametrize("enabled", [True, False])
def test_the_interpreter_says_whether_it_has_a_lock(monkeypatch, enabled):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: enabled, raising=False)
    try:
        assert importlib.reload(atomic).HAS_INTERPRETER_LOCK is enabled
    finally:
        monkeypatch.undo()
        importlib.reload(atomic)


def test_an_older_interpreter_has_one(monkeypatch):
    monkeypatch.delattr(sys, "_is_gil_enabled", raising=False)
    try:
        assert importlib.reload(atomic).HAS_INTERPRETER_LOCK
    finally:
        monkeypatch.undo()
        importlib.reload(atomic)


def test_events_without_an_interpreter_lock(server, monkeypatch):
    monkeypatch.setattr(event_queue, "HAS_INTERPRETER_LOCK", False)
    with PieClient(server.uri) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("echo")
        events = instance._events
        assert not events.fast_path
        for number in range(100):
            instance.send(str(number))
            assert instance.recv(timeout=20) == (Event.Message, str(number))
        instance.send("stop")
        assert [event for event, _ in instance] == [Event.Completed]
        assert not events.fast_path
