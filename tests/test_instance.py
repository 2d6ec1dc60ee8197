"""Instance against LocalServer: events, messages and blobs."""

from __future__ import annotations

import os
import threading
import time

import pytest

from pie_sync import (
    CompletedInstance,
    Event,
    InstanceEnded,
    InstanceFailed,
    PieError,
    PieTimeoutError,
)

EVERYTHING = [
    (Event.Stdout, "out 1\n"),
    (Event.Stderr, "err 1\n"),
    (Event.Message, "message 1"),
    (Event.Blob, b"blob 1"),
    (Event.Stdout, "out 2\n"),
    (Event.Message, "message 2"),
    (Event.Completed, "a b"),
]


@pytest.fixture
def echo(client):
    return client.launch_instance_from_registry("echo")


class TestReceiving:
    def test_iteration_yields_everything_and_stops(self, client):
        instance = client.launch_instance_from_registry("talk", ["a", "b"])
        assert not instance.finished
        assert list(instance) == EVERYTHING
        assert instance.finished
        assert list(instance) == []

    def test_recv_until_the_end(self, client):
        instance = client.launch_instance_from_registry("talk", ["a", "b"])
        received = []
        while not instance.finished:
            received.append(instance.recv(timeout=10))
        assert received == EVERYTHING
        for _ in range(2):
            with pytest.raises(InstanceEnded, match=f"instance {instance.id} has ended: Completed: a b"):
                instance.recv()

    def test_iteration_goes_on_after_a_break(self, client):
        instance = client.launch_instance_from_registry("talk", ["a", "b"])
        received = []
        for event in instance:
            received.append(event)
            if len(received) == 2:
                break
        received.append(instance.recv(timeout=10))
        assert received + list(instance) == EVERYTHING

    def test_time_limits(self, echo):
        begin = time.monotonic()
        with pytest.raises(PieTimeoutError, match="no event within 0 s") as caught:
            echo.recv(timeout=0)
        assert time.monotonic() - begin < 1
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, PieError)
        with pytest.raises(PieTimeoutError):
            echo.recv(timeout=0.2)
        assert time.monotonic() - begin >= 0.2
        with pytest.raises(PieTimeoutError):
            next(echo.events(timeout=0.1))
        with pytest.raises(ValueError, match="timeout must not be negative"):
            echo.recv(timeout=-1)
        echo.send("still works")
        assert next(echo.events(timeout=10)) == (Event.Message, "still works")

    def test_two_threads_share_the_events(self, client):
        total = 5000
        instance = client.launch_instance_from_registry("flood", [str(total)])
        received = [[], []]

        def consume(mine):
            for event, data in instance:
                mine.append((event, data))

        threads = [threading.Thread(target=consume, args=(mine,)) for mine in received]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        messages = [int(data) for mine in received for event, data in mine if event is Event.Message]
        assert sorted(messages) == list(range(total))
        ends = [data for mine in received for event, data in mine if event is Event.Completed]
        assert ends == ["done"]
        for mine in received:
            numbers = [int(data) for event, data in mine if event is Event.Message]
            assert numbers == sorted(numbers)


class TestWaiting:
    def test_collects_everything(self, client):
        result = client.launch_instance_from_registry("talk", ["a", "b"]).wait(timeout=10)
        assert result == CompletedInstance(
            Event.Completed,
            "a b",
            stdout="out 1\nout 2\n",
            stderr="err 1\n",
            messages=("message 1", "message 2"),
            blobs=(b"blob 1",),
        )

    def test_is_idempotent(self, client):
        instance = client.launch_instance_from_registry("talk", ["a", "b"])
        assert instance.wait(timeout=10) == instance.wait(timeout=0, check=True)
        assert instance.finished

    def test_tells_what_it_was_launched_with_and_how_long_it_took(self, client):
        began = time.monotonic()
        instance = client.launch_instance_from_registry("talk", ("a", "b"))
        while not instance._events.terminal:
            time.sleep(0.001)
        most = time.monotonic() - began
        time.sleep(0.05)  # the end has come; it does not matter when somebody looks
        result = instance.wait(timeout=10)
        assert (result.id, result.input, result.ok) == (instance.id, ["a", "b"], True)
        assert 0 < result.elapsed <= most

    def test_of_an_instance_that_another_client_launched(self, client, server):
        launched = client.launch_instance_from_registry("talk", ["a"], detached=True)
        result = client.attach_instance(launched.id).wait(timeout=10)
        assert (result.id, result.input, result.elapsed) == (launched.id, None, None)

    def test_loses_nothing_on_a_timeout(self, echo):
        echo.send("one")
        with pytest.raises(PieTimeoutError, match=r"not ended within 0\.3 s"):
            echo.wait(timeout=0.3)
        echo.send("two")
        echo.send("stop")
        assert echo.wait(timeout=10).messages == ("one", "two")

    def test_after_iteration_it_still_tells_the_end(self, client):
        instance = client.launch_instance_from_registry("talk", ["a", "b"])
        assert list(instance) == EVERYTHING
        assert instance.wait() == CompletedInstance(Event.Completed, "a b")

    def test_check(self, client):
        instance = client.launch_instance_from_registry("fail")
        assert instance.wait(timeout=10).event is Event.Exception
        with pytest.raises(InstanceFailed, match=f"instance {instance.id} ended with Exception") as caught:
            instance.wait(check=True)
        assert "the oven is cold" in caught.value.completed.message
        assert caught.value.instance_id == instance.id

    def test_from_two_threads(self, echo):
        results = []
        threads = [threading.Thread(target=lambda: results.append(echo.wait(timeout=30))) for _ in range(2)]
        for thread in threads:
            thread.start()
        echo.send("hello")
        echo.send("stop")
        for thread in threads:
            thread.join(30)
        assert results[0] == results[1]
        assert results[0].messages == ("hello",)


class TestSending:
    def test_messages_in_order(self, echo):
        texts = ["", "ü", "line\nfeed", "x" * 100_000, *map(str, range(200))]
        for text in texts:
            echo.send(text)
        echo.send("stop")
        assert echo.wait(timeout=30).messages == tuple(texts)

    def test_what_can_not_be_sent(self, echo):
        with pytest.raises(TypeError, match=r"bytes go through upload_blob\(\)"):
            echo.send(b"bytes")
        with pytest.raises(TypeError, match="expected bytes, a path or a binary file"):
            echo.upload_blob(5)

    @pytest.mark.parametrize("size", [1, 256 * 1024, 256 * 1024 + 1, 5_000_000])
    def test_blobs_there_and_back(self, client, size, tmp_path):
        blob = os.urandom(size)
        path = tmp_path / "blob"
        path.write_bytes(blob)
        calls = []
        for source in (blob, path):
            instance = client.launch_instance_from_registry("blob-echo")
            instance.upload_blob(source, progress=lambda sent, total: calls.append((sent, total)))
            assert instance.recv(timeout=30) == (Event.Blob, blob)
            assert instance.recv(timeout=30) == (Event.Completed, "")
        assert calls[-1] == (size, size)

    def test_the_same_blob_to_many_instances_at_once(self, client):
        """Servers keep blobs apart by their hash alone, so these uploads must take turns."""
        blob = os.urandom(600_000)
        instances = [client.launch_instance_from_registry("blob-echo") for _ in range(6)]
        threads = [threading.Thread(target=instance.upload_blob, args=(blob,)) for instance in instances]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for instance in instances:
            assert instance.wait(timeout=30).blobs == (blob,)

    def test_after_the_end(self, client):
        instance = client.launch_instance_from_registry("talk")
        instance.wait(timeout=10)
        with pytest.raises(InstanceEnded, match="send: instance .* has ended: Completed"):
            instance.send("too late")
        with pytest.raises(InstanceEnded, match="upload_blob: instance .* has ended"):
            instance.upload_blob(b"too late")
        instance.terminate()

    def test_repr(self, echo):
        assert repr(echo) == f"<Instance {echo.id} attached>"
        echo.send("stop")
        echo.wait(timeout=10)
        assert repr(echo) == f"<Instance {echo.id} finished>"
