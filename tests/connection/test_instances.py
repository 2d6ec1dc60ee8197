"""Listing, attaching to and terminating instances on the instance protocol."""

from __future__ import annotations

import gc
import threading
import time
import uuid
import weakref

import pytest

from pie_sync import (
    AttachError,
    Event,
    InstanceInfo,
    PieClient,
    PieConnectionError,
    TerminateError,
)


def wait_until(condition) -> None:
    """Wait for something that only asking can tell, and nothing announces."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


class TestInstances:
    def test_list(self, client, server):
        assert client.list_instances() == []
        attached = client.launch_instance_from_registry("echo", ["--loud"])
        detached = client.launch_instance_from_registry("sleep-until-told", detached=True)
        infos = {info.id: info for info in client.list_instances()}
        assert set(infos) == {attached.id, detached.id}
        assert all(isinstance(info, InstanceInfo) for info in infos.values())
        assert infos[attached.id].arguments == ("--loud",)
        assert infos[attached.id].status == "Attached"
        assert infos[detached.id].status == "Detached"
        with PieClient(server.uri) as other:
            other.authenticate("bob")
            assert other.list_instances() == []

    def test_detached(self, client):
        instance = client.launch_instance_from_registry("sleep-until-told", detached=True)
        assert "detached" in repr(instance)
        assert not instance.finished
        for call in (
            instance.recv,
            instance.wait,
            instance.events,
            lambda: iter(instance),
            lambda: instance.send("x"),
            lambda: instance.upload_blob(b"x"),
        ):
            with pytest.raises(AttachError, match=r"launched detached; attach to it first: .*attach_instance"):
                call()
        attached = client.attach_instance(instance.id)
        instance = None  # its end must not take the events of the attached one with it
        gc.collect()
        attached.send("good morning")
        assert attached.recv(timeout=10) == (Event.Completed, "good morning")

    def test_attach_delivers_what_was_kept(self, server, client):
        instance = client.launch_instance_from_registry("talk", ["x"], detached=True)
        wait_until(lambda: client.list_instances()[0].status == "Finished")
        result = client.attach_instance(instance.id).wait(timeout=10)
        assert (result.event, result.message, result.stdout) == (Event.Completed, "x", "out 1\nout 2\n")
        assert client.list_instances() == []

    def test_a_lost_connection_detaches(self, server):
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            instance = client.launch_instance_from_registry("echo")
            instance.send("before")
            assert instance.recv(timeout=10) == (Event.Message, "before")
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            wait_until(lambda: client.list_instances()[0].status == "Detached")
            again = client.attach_instance(instance.id)
            again.send("after")
            assert again.recv(timeout=10) == (Event.Message, "after")

    def test_attach_refusals(self, client):
        instance = client.launch_instance_from_registry("echo")
        for instance_id, reason in [
            (instance.id, "Instance already attached"),
            (str(uuid.uuid4()), "Instance not found"),
            ("not-a-uuid", "Invalid instance_id"),
        ]:
            with pytest.raises(AttachError, match=f"attach_instance failed: {reason}"):
                client.attach_instance(instance_id)
        instance.send("still mine")
        assert instance.recv(timeout=10) == (Event.Message, "still mine")

    def test_terminate(self, client):
        one = client.launch_instance_from_registry("echo")
        two = client.launch_instance_from_registry("echo")
        one.terminate()
        client.terminate_instance(two.id)
        for instance in (one, two):
            assert instance.recv(timeout=10) == (Event.Aborted, "Signal termination")
        one.terminate()
        client.terminate_instance(str(uuid.uuid4()))
        with pytest.raises(TerminateError, match="Malformed instance ID"):
            client.terminate_instance("not-a-uuid")

    def test_terminate_an_endless_loop(self, client):
        import wasmtime

        loop = wasmtime.wat2wasm(
            '(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))'
        )
        instance = client.launch_instance(client.upload_program(loop))
        begin = time.monotonic()
        instance.terminate()
        assert instance.wait(timeout=10).event is Event.Aborted
        assert time.monotonic() - begin < 2

    def test_events_of_a_dropped_instance_are_not_kept(self, client):
        instance = client.launch_instance_from_registry("echo")
        session, instance_id = client._manager.connection.session, instance.id
        assert instance_id in session.router._queues
        events = weakref.ref(instance._events)
        del instance
        gc.collect()
        assert instance_id not in session.router._queues
        assert events() is None  # before anything else has come

    @pytest.mark.parametrize("how", ["it ends", "the connection is lost", "the client is closed"])
    def test_events_are_not_kept_beyond_the_instance(self, server, client, how):
        instance = client.launch_instance_from_registry("echo")
        instance.send("hello")
        assert instance.recv(timeout=10) == (Event.Message, "hello")
        session, events = client._manager.connection.session, weakref.ref(instance._events)
        if how == "it ends":
            instance.send("stop")
            assert instance.recv(timeout=10) == (Event.Completed, "stopped")
        elif how == "the connection is lost":
            server.drop_connections()
            with pytest.raises(PieConnectionError):
                instance.recv(timeout=10)
        else:
            client.close()
        if how != "it ends":
            session._thread.join(10)
        del instance
        gc.collect()
        assert events() is None
        assert session.router._queues == {}
