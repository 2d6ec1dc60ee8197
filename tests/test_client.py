"""PieClient against LocalServer: arguments, queries, counters."""

from __future__ import annotations

import threading
import time

import pytest

from pie_sync import (
    ClientStats,
    Event,
    PieClient,
    PieError,
    PieTimeoutError,
)


def wait_until(condition) -> None:
    """Wait for something that only asking can tell, and nothing announces."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


class TestArguments:
    @pytest.mark.parametrize("uri", ["", "127.0.0.1:8080", "http://127.0.0.1", "ws://", "ws:/x"])
    def test_uris(self, uri):
        with pytest.raises(ValueError, match="server_uri must look like ws://"):
            PieClient(uri)

    @pytest.mark.parametrize("name", ["timeout", "connect_timeout", "ping_interval", "ping_timeout"])
    def test_time_limits(self, name):
        PieClient("ws://x", **{name: None})
        for endless in (float("inf"), 1e10):  # nothing waits for so long: as good as none
            assert PieClient("ws://x", **{name: endless}).closed
        for value, reason in ((-1, "must not be negative"), (float("nan"), "must be a number of seconds or None")):
            with pytest.raises(ValueError, match=f"{name} {reason}"):
                PieClient("ws://x", **{name: value})
        with pytest.raises(TypeError, match=f"{name} must be a number of seconds or None, not str"):
            PieClient("ws://x", **{name: "10"})

    def test_no_time_limit_is_too_long_for_the_system(self, server):
        endless = dict.fromkeys(("timeout", "connect_timeout", "ping_interval", "ping_timeout"), float("inf"))
        with PieClient(server.uri, **endless) as client:
            client.authenticate("alice")
            client.ping(timeout=1e12)
            instance = client.launch_instance_from_registry("echo")
            instance.send("hello")
            assert instance.recv(timeout=1e12) == (Event.Message, "hello")

    @pytest.mark.parametrize("name", ["max_message_size", "max_blob_size"])
    def test_sizes(self, name):
        with pytest.raises(ValueError, match=f"{name} must be positive"):
            PieClient("ws://x", **{name: 0})
        with pytest.raises(TypeError, match=f"{name} must be a number of bytes"):
            PieClient("ws://x", **{name: 1.5})

    def test_headers(self):
        with pytest.raises(ValueError, match="line break"):
            PieClient("ws://x", headers={"X": "a\r\nEvil: yes"})
        with pytest.raises(TypeError, match="str to str"):
            PieClient("ws://x", headers={"X": 1})

    @pytest.mark.parametrize("args", ["--one-string", b"bytes"])
    def test_args_as_one_string(self, client, args):
        with pytest.raises(TypeError, match=r"args must be a list of strings, .* did you mean \["):
            client.launch_instance("ab" * 32, args)
        with pytest.raises(TypeError, match="args must be a list of strings"):
            client.launch_instance_from_registry("echo", args)

    def test_args_of_other_things(self, client):
        with pytest.raises(TypeError, match=r"args\[1\] must be a str, not int"):
            client.launch_instance_from_registry("echo", ["--count", 3])

    @pytest.mark.parametrize("value", ["echo", "ab" * 31, "xy" * 32, ""])
    def test_hashes(self, client, value):
        for method in (client.launch_instance, client.program_exists):
            with pytest.raises(ValueError, match="64 hexadecimal digits.*launch_instance_from_registry"):
                method(value)

    def test_types(self, client):
        for call in (
            lambda: client.launch_instance(5),
            lambda: client.launch_instance_from_registry(None),
            lambda: client.attach_instance(None),
            lambda: client.terminate_instance(client),
            lambda: client.query("a", None),
            lambda: client.upload_program(5),
            lambda: client.ping(timeout="1"),
        ):
            with pytest.raises(TypeError):
                call()
        assert client.ping() > 0


class TestServer:
    def test_ping(self, client):
        assert 0 < client.ping() < 5

    def test_stats(self, server):
        client = PieClient(server.uri)
        assert client.stats() == ClientStats()
        with client:
            client.authenticate("alice")
            before = client.stats()
            assert (before.reconnects, before.last_round_trip, before.events_queued) == (0, None, {})
            round_trip = client.ping()
            after = client.stats()
            assert after.messages_sent == before.messages_sent + 1
            assert after.messages_received == before.messages_received + 1
            assert after.bytes_sent > before.bytes_sent
            assert after.bytes_received > before.bytes_received
            assert after.last_round_trip == round_trip
            assert after.pending_requests == 0
            instance = client.launch_instance_from_registry("echo")
            for _ in range(3):
                instance.send("x")
            wait_until(lambda: client.stats().events_queued == {instance.id: 3})
            instance.recv(timeout=10)
            assert client.stats().events_queued == {instance.id: 2}
            assert client.stats().spilled_bytes == 0
        assert client.stats() == ClientStats()

    def test_query(self, client):
        answer = client.query("model_status", "")
        assert answer.successful is True
        assert answer == (True, answer.result)
        assert client.query("program_exists", "ab" * 32) == (True, "false")

    def test_an_unknown_subject_is_never_answered(self, client):
        with pytest.raises(PieTimeoutError, match="never answer a subject that they don't know") as caught:
            client.query("the weather", "", timeout=0.2)
        assert isinstance(caught.value, (PieError, TimeoutError))
        assert client.ping() > 0

    def test_from_many_threads(self, client):
        errors = []

        def work(number):
            try:
                for turn in range(25):
                    text = f"{number}.{turn}"
                    assert client.query("program_exists", "ab" * 32) == (True, "false")
                    instance = client.launch_instance_from_registry("echo")
                    instance.send(text)
                    instance.send("stop")
                    assert list(instance.events(timeout=30)) == [
                        (Event.Message, text),
                        (Event.Completed, "stopped"),
                    ]
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors
