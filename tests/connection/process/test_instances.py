"""Detached instances, the list and termination on the process protocol."""

from __future__ import annotations

import threading

import pytest

from pie_sync import (
    AttachError,
    Event,
    InstanceInfo,
    PieClient,
    TerminateError,
)
from pie_sync.testing import ProgramContext
from tests.connection.process import (
    PATIENCE,
    UNKNOWN_ID,
)
from tests.testing import programs


class TestDetached:
    def test_it_can_be_attached_to(self, client, other):
        detached = client.launch_instance_from_registry("echo@0.1.0", {"n": 1}, detached=True)
        with pytest.raises(AttachError, match="launched detached"):
            detached.send("x")
        (info,) = client.list_instances()
        assert info.id == detached.id
        assert info.arguments == ('{"n": 1}',)
        attached = other.attach_instance(detached.id)
        attached.send("hello")
        assert attached.recv(PATIENCE) == (Event.Message, "hello")
        attached.send("stop")
        assert attached.wait(PATIENCE).message == "stopped"
        assert client.list_instances() == []

    def test_the_same_launch_at_the_same_moment_in_many_threads(self, client, other):
        found, barrier = [], threading.Barrier(8)

        def launch(own: PieClient) -> None:
            barrier.wait(PATIENCE)
            for _ in range(5):
                found.append(own.launch_instance_from_registry("echo@0.1.0", ["same"], detached=True).id)

        threads = [threading.Thread(target=launch, args=(own,)) for own in (client, other) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 40
        assert {info.id for info in client.list_instances()} == set(found)
        assert {info.arguments for info in client.list_instances()} == {('{"_positional": ["same"]}',)}

    def test_the_program_sees_its_arguments(self, server, client):
        seen, written = [], threading.Event()

        @server.program("writer")
        def writer(context: ProgramContext) -> None:
            seen.append(context.input)
            written.set()
            context.receive()

        client.launch_instance_from_registry("writer@0.1.0", {"text": "ends in space "}, detached=True)
        assert written.wait(PATIENCE)
        assert seen == [{"text": "ends in space "}]

    def test_by_hash(self, client):
        detached = client.launch_instance(client.upload_program(programs.ECHO), detached=True)
        attached = client.attach_instance(detached.id)
        attached.terminate()
        assert attached.wait(PATIENCE).event is Event.Aborted

    def test_what_can_not_be_attached_to(self, client, other, is_0_5):
        instance = client.launch_instance_from_registry("echo@0.1.0")
        text = "Cannot attach: already attached" if is_0_5 else "Process not found"
        with pytest.raises(AttachError, match=text):
            other.attach_instance(instance.id)
        with pytest.raises(AttachError, match="Process not found"):
            client.attach_instance(UNKNOWN_ID)
        with pytest.raises(AttachError, match="Invalid process_id"):
            client.attach_instance("nonsense")

    def test_it_outlives_its_connection(self, server):
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            detached = client.launch_instance_from_registry("echo@0.1.0", detached=True)
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            instance = client.attach_instance(detached.id)
            instance.send("stop")
            assert instance.wait(PATIENCE).message == "stopped"


class TestList:
    def test_an_entry(self, client, is_0_5):
        instance = client.launch_instance_from_registry("echo@0.1.0", {"a": "é"})
        (info,) = client.list_instances()
        assert info == InstanceInfo(
            id=instance.id,
            arguments=('{"a": "\\u00e9"}',),
            username="internal" if is_0_5 else "alice",
            elapsed_secs=info.elapsed_secs,
            program="echo@0.1.0",
        )
        assert 0 <= info.elapsed_secs < PATIENCE
        assert (info.status, info.kv_pages_used) == (None, None)

    def test_whose_are_listed(self, server, client, is_0_5):
        instance = client.launch_instance_from_registry("echo@0.1.0")
        with PieClient(server.uri) as bob:
            bob.authenticate("bob")
            assert [info.id for info in bob.list_instances()] == ([instance.id] if is_0_5 else [])


class TestTerminate:
    def test_ours(self, client):
        instance = client.launch_instance_from_registry("echo@0.1.0")
        instance.terminate()
        assert instance.wait(PATIENCE).event is Event.Aborted
        instance.terminate()

    def test_an_endless_loop(self, client):
        instance = client.launch_instance(client.upload_program(programs.ENDLESS_LOOP))
        assert instance.recv(PATIENCE) == (Event.Stdout, "up")
        instance.terminate()
        assert instance.recv(PATIENCE)[0] is Event.Aborted

    def test_by_another_client(self, client, other):
        instance = client.launch_instance_from_registry("echo@0.1.0")
        other.terminate_instance(instance.id)
        assert instance.wait(PATIENCE).event is Event.Aborted
        assert client.list_instances() == []

    def test_detached(self, client):
        client.launch_instance_from_registry("echo@0.1.0", detached=True).terminate()
        assert client.list_instances() == []

    def test_a_message_is_no_termination(self, server, client):
        server.program("says-signal")(lambda context: context.send("Signal"))
        ended = client.launch_instance_from_registry("says-signal@0.1.0").wait(PATIENCE)
        assert (ended.event, ended.messages) == (Event.Completed, ("Signal",))

    def test_refusals(self, client):
        with pytest.raises(TerminateError, match="Process not found"):
            client.terminate_instance(UNKNOWN_ID)
        with pytest.raises(TerminateError, match="Invalid process ID"):
            client.terminate_instance("nonsense")
