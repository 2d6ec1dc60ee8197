"""Events of instances on the process protocol."""

from __future__ import annotations

import json
import threading
import time

import msgpack
import pytest

from pie_sync import (
    AttachError,
    Blob,
    Event,
    InstanceEnded,
    LaunchError,
    PieClient,
    PieConnectionError,
    PieTimeoutError,
    ProtocolError,
)
from pie_sync.testing import ProgramContext
from pie_sync.testing._dialects import process as _process_dialect
from tests.connection.process import (
    CHUNK,
    PATIENCE,
    SHORT,
    only_0_4,
    only_0_5,
)
from tests.faults.raw_server import RawPeer, binary_frame, raw_server
from tests.scripted import AUTHENTICATED
from tests.testing import programs


class TestEvents:
    def test_all_of_them(self, client):
        events = list(client.launch_instance_from_registry("everything@0.1.0").events(PATIENCE))
        assert events == [
            (Event.Stdout, "out"),
            (Event.Stderr, "err"),
            (Event.Message, "message"),
            (Event.Blob, b"blob"),
            (Event.Blob, bytes(3 * CHUNK)),
            (Event.Completed, '{"answer": 42}'),
        ]

    def test_a_blob_may_have_a_name(self, client, is_0_5, tmp_path):
        named, unnamed = client.launch_instance_from_registry("everything@0.1.0").wait(PATIENCE).blobs
        assert isinstance(named, Blob)
        if not is_0_5:
            assert named.name is None  # these servers have no field for it
            return
        assert (named.name, unnamed.name) == ("../a.bin", None)
        assert named.save(tmp_path) == tmp_path / "a.bin"
        assert (tmp_path / "a.bin").read_bytes() == b"blob"

    def test_a_failure_is_an_exception(self, client):
        ended = client.launch_instance_from_registry("failing@0.1.0").wait(PATIENCE)
        assert (ended.event, ended.message) == (Event.Exception, "RuntimeError: the oven is cold")

    def test_a_failing_module(self, client):
        ended = client.launch_instance(client.upload_program(programs.FAILURE)).wait(PATIENCE)
        assert (ended.event, ended.message) == (Event.Exception, "exit code 3")
        assert (ended.stdout, ended.stderr) == ("out\n", "err\n")

    def test_a_conversation(self, client):
        instance = client.launch_instance_from_registry("echo@0.1.0")
        for message in ("one", "", "é" * 100_000):
            instance.send(message)
            assert instance.recv(PATIENCE) == (Event.Message, message)
        instance.send("stop")
        assert instance.recv(PATIENCE) == (Event.Completed, "stopped")
        with pytest.raises(InstanceEnded):
            instance.recv(PATIENCE)
        with pytest.raises(InstanceEnded):
            instance.send("too late")

    def test_questions(self, client, is_0_5):
        assert client.ping() > 0
        successful, status = client.query("model_status", "")
        assert successful
        assert isinstance(json.loads(status), dict)
        if is_0_5:
            unknown = client.query("weather", "")
            assert unknown == (False, 'unknown query subject "weather" (known: model_status)')
        else:
            with pytest.raises(PieTimeoutError, match="never answer a subject that they don't know"):
                client.query("weather", "", timeout=SHORT)

    def test_many_threads(self, client):
        outcomes = []

        def work(number: int) -> None:
            for _ in range(10):
                instance = client.launch_instance_from_registry("echo@0.1.0", {"number": number})
                instance.send(str(number))
                instance.send("stop")
                outcomes.append((number, instance.wait(PATIENCE).messages))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == [(number, (str(number),)) for number in range(8) for _ in range(10)]


class TestEarlyEvents:
    """Events that arrive before the answer to their launch."""

    @pytest.fixture(autouse=True)
    def held_back_to_the_end(self, monkeypatch):
        """The answer to a launch comes when the instance has ended, and not before."""
        monkeypatch.setattr(_process_dialect, "EARLY_EVENTS_LIMIT", PATIENCE)

    @pytest.fixture
    def client(self, early_server):
        with PieClient(early_server.uri) as client:
            client.authenticate("alice")
            yield client

    def test_none_is_lost(self, client):
        ended = client.launch_instance_from_registry("everything@0.1.0").wait(PATIENCE)
        assert (ended.event, ended.message) == (Event.Completed, '{"answer": 42}')
        assert (ended.stdout, ended.stderr, ended.messages) == ("out", "err", ("message",))
        assert ended.blobs == (b"blob", bytes(3 * CHUNK))
        assert ended.blobs[0].name == "../a.bin"

    def test_none_goes_astray(self, client):
        outcomes = []

        def work(number: int) -> None:
            for _ in range(10):
                ended = client.launch_instance_from_registry("given@0.1.0", {"number": number}).wait(PATIENCE)
                outcomes.append((number, json.loads(ended.message)[1]))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes, key=str) == [
            (number, {"number": number}) for number in range(4) for _ in range(10)
        ]

    def test_what_is_left_comes_after_the_early_ones(self, early_server, client, monkeypatch):
        monkeypatch.setattr(_process_dialect, "EARLY_EVENTS_LIMIT", 0.01)

        @early_server.program("numbers")
        def numbers(context: ProgramContext) -> None:
            for number in range(1000):
                context.send(str(number))
            context.receive()
            for number in range(1000, 2000):
                context.send(str(number))

        for _ in range(5):
            instance = client.launch_instance_from_registry("numbers@0.1.0")
            instance.send("go on")
            assert instance.wait(PATIENCE).messages == tuple(map(str, range(2000)))

    def test_none_is_lost_of_a_launch_that_was_given_up(self, early_server, client, monkeypatch):
        monkeypatch.setattr(_process_dialect, "EARLY_EVENTS_LIMIT", 0.5)

        @early_server.program("slow")
        def slow(context: ProgramContext) -> str:
            context.send("early")
            context.receive()
            context.send("late")
            return "done"

        with pytest.raises(PieTimeoutError):
            client.launch_instance_from_registry("slow@0.1.0", timeout=0.1)
        deadline = time.monotonic() + PATIENCE
        while not client.stats().events_queued:  # until the answer comes
            assert time.monotonic() < deadline
            client.ping()
        (info,) = client.list_instances()
        instance = client.attach_instance(info.id)
        instance.send("go on")
        assert instance.wait(PATIENCE).messages == ("early", "late")

    def test_there_is_a_limit_and_whoever_it_concerns_is_told(self, early_server, client):
        @early_server.program("chatty")
        def chatty(context: ProgramContext) -> str:
            for number in range(24):
                context.send(str(number) + "x" * 1024 * 1024)
            return "done"

        instance = client.launch_instance_from_registry("chatty@0.1.0")
        received, errors = [], []
        while not instance.finished:
            try:
                received.append(instance.recv(PATIENCE))
            except ProtocolError as error:
                errors.append(str(error))
        *messages, end = received
        assert [int(text.rstrip("x")) for _, text in messages] == list(range(len(messages)))
        assert 0 < len(messages) < 24
        assert end == (Event.Completed, "done")
        (error,) = errors
        assert f"{24 - len(messages)} events lost" in error
        # What there is room for is not used up by that.
        for _ in range(3):
            assert client.launch_instance_from_registry("everything@0.1.0").wait(PATIENCE).blobs

    def test_the_end_is_known_even_when_nothing_more_is_kept(self, early_server, client):
        @early_server.program("chatty")
        def chatty(context: ProgramContext) -> str:
            for _ in range(100_000):
                context.send("x")
            return "done"

        instance = client.launch_instance_from_registry("chatty@0.1.0")
        kinds = set()
        while not instance.finished:
            try:
                kinds.add(instance.recv(1.0)[0])  # everything has arrived before the launch returned
            except ProtocolError as error:
                kinds.add(type(error))
        assert kinds == {Event.Message, ProtocolError, Event.Completed}

    def test_a_detached_launch_that_ends_at_once_can_not_be_found(self, client):
        with pytest.raises(LaunchError, match="has ended before its id could be found"):
            client.launch_instance_from_registry("given@0.1.0", detached=True)


class TestBlobs:
    @pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 1])
    def test_up(self, client, size):
        instance = client.launch_instance_from_registry("sizes@0.1.0")
        assert instance.recv(PATIENCE) == (Event.Message, "ready")
        seen = []
        instance.upload_blob(bytes(size), progress=lambda sent, total: seen.append((sent, total)))
        assert seen[-1] == (size, size)
        assert instance.recv(PATIENCE) == (Event.Message, str(size))

    def test_one_that_nobody_waits_for_is_lost(self, client):
        instance = client.launch_instance_from_registry("echo@0.1.0")
        instance.upload_blob(b"nobody wants it")
        instance.send("still there")
        assert instance.recv(PATIENCE) == (Event.Message, "still there")

    def test_after_the_end(self, client):
        instance = client.launch_instance_from_registry("given@0.1.0")
        instance.wait(PATIENCE)
        with pytest.raises(InstanceEnded):
            instance.upload_blob(b"too late")


class TestLostConnection:
    @only_0_5
    @pytest.mark.parametrize("how", ["closed", "dropped"])
    def test_0_5_ends_what_is_attached(self, server, client, other, how):
        instance = client.launch_instance_from_registry("echo@0.1.0")
        detached = other.launch_instance_from_registry("echo@0.1.0", detached=True)
        if how == "closed":
            client.close()
        else:
            server.drop_connections()
            other.close()  # it may not have noticed yet
            other.connect()
        while any(info.id == instance.id for info in other.list_instances()):
            pass
        with pytest.raises(PieConnectionError):
            instance.recv(PATIENCE)
        with pytest.raises(AttachError, match="Process not found"):
            other.attach_instance(instance.id)
        assert [info.id for info in other.list_instances()] == [detached.id]

    @only_0_4
    def test_0_4_leaves_what_is_attached_bound_to_the_lost_connection(self, server, client):
        instance = client.launch_instance_from_registry("echo@0.1.0")
        instance.send("hello")
        assert instance.recv(PATIENCE) == (Event.Message, "hello")
        server.drop_connections()
        with pytest.raises(PieConnectionError):
            instance.recv(PATIENCE)
        client.connect()
        client.authenticate("alice")
        assert [info.id for info in client.list_instances()] == [instance.id]
        with pytest.raises(AttachError, match="Process not found"):
            client.attach_instance(instance.id)
        client.terminate_instance(instance.id)
        assert client.list_instances() == []

    @only_0_5
    def test_to_attach_twice_does_not_endanger_the_instance(self, client, other):
        instance = client.launch_instance_from_registry("echo@0.1.0")
        with pytest.raises(AttachError, match="already attached"):
            client.attach_instance(instance.id)
        instance.send("stop")
        assert instance.wait(PATIENCE).message == "stopped"


def test_what_came_before_all_streams_are_aborted_is_received():
    """An event, and behind it in the same read the text that ends all streams."""

    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        for result in (AUTHENTICATED, "instance-1"):
            peer.send(type="response", corr_id=peer.receive()["corr_id"], ok=True, result=result)
        event = {"type": "process_event", "process_id": "instance-1", "event": "message", "value": "the last one"}
        text = b'{"type": "error", "message": "stream aborted"}'
        peer.socket.sendall(binary_frame(msgpack.packb(event)) + b"\x81" + bytes((len(text),)) + text)
        peer.receive()

    with raw_server(serve) as uri, PieClient(uri, timeout=10, protocol="process") as client:
        client.internal_authenticate("token")
        instance = client.launch_instance_from_registry("x@0.1.0")
        assert instance.recv(10) == (Event.Message, "the last one")
        with pytest.raises(PieConnectionError, match="stream aborted"):
            instance.recv(10)
