"""The life of a connection: made, lost, made again, closed, collected."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import warnings

import pytest

from pie_sync import (
    Event,
    PieClient,
    PieConnectionError,
)
from pie_sync._connection.manager import ConnectionManager


class TestLife:
    def test_connect_and_close_are_idempotent(self, server):
        client = PieClient(server.uri)
        assert client.closed
        assert client.server_uri == server.uri
        client.connect()
        client.connect()
        assert not client.closed
        client.close()
        client.close()
        assert client.closed

    def test_connect_after_close_makes_a_new_connection(self, server):
        client = PieClient(server.uri)
        for _ in range(2):
            with client:
                client.authenticate("alice")
                assert client.ping() > 0

    def test_connect_after_a_lost_connection(self, server):
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            instance = client.launch_instance_from_registry("echo")
            server.drop_connections()
            with pytest.raises(PieConnectionError):
                instance.recv(timeout=10)
            assert client.closed
            client.connect()
            client.authenticate("alice")
            again = client.attach_instance(instance.id)
            again.send("hello again")
            assert again.recv(timeout=10) == (Event.Message, "hello again")

    def test_an_exception_in_the_block_closes_too(self, server):
        with pytest.raises(KeyError), PieClient(server.uri) as client:
            raise KeyError
        assert client.closed

    @pytest.mark.parametrize("method", ["ping", "list_instances"])
    def test_before_connect_and_after_close(self, server, method):
        client = PieClient(server.uri)
        with pytest.raises(PieConnectionError, match=rf"{method}: the client is not connected: call connect\(\)"):
            getattr(client, method)()
        client.connect()
        client.close()
        with pytest.raises(PieConnectionError, match="not connected"):
            getattr(client, method)()

    def test_close_ends_what_waits_in_other_threads(self, client):
        instance = client.launch_instance_from_registry("echo")
        outcome = []

        def receive():
            try:
                instance.recv()
            except PieConnectionError as error:
                outcome.append(str(error))

        thread = threading.Thread(target=receive)
        thread.start()
        client.close()
        thread.join(10)
        assert outcome == ["the client was closed"]

    def test_an_unclosed_client_warns_and_is_cleaned_up(self, server):
        client = PieClient(server.uri)
        client.connect()
        with pytest.warns(ResourceWarning, match="unclosed <PieClient"):
            del client
            gc.collect()

    def test_an_unclosed_client_does_not_keep_the_interpreter(self, server):
        program = (
            "import sys; from pie_sync import PieClient; client = PieClient(sys.argv[1]); client.connect();"
            " client.authenticate('alice')"
        )
        result = subprocess.run(
            [sys.executable, "-W", "always", "-c", program, server.uri], capture_output=True, text=True, timeout=30
        )
        assert result.returncode == 0
        assert "ResourceWarning: unclosed <PieClient" in result.stderr
        assert "Traceback" not in result.stderr

    def test_repr(self, server):
        with PieClient(server.uri) as client:
            assert repr(client) == f"<PieClient {server.uri} connected>"
        assert repr(client) == f"<PieClient {server.uri} closed>"

    def test_can_not_be_pickled(self, client):
        with pytest.raises(TypeError, match="make one in each process"):
            pickle.dumps(client)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
    def test_a_forked_child_can_not_use_it_and_does_no_harm(self, client):
        instance = client.launch_instance_from_registry("echo")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork() in a process with threads
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for call in (client.ping, instance.recv, lambda: instance.send("x"), lambda: next(iter(instance))):
                    with pytest.raises(PieConnectionError, match="make a new PieClient in the child"):
                        call()
                client.close()
                with PieClient(client.server_uri) as own:
                    own.authenticate("bob")
                    assert own.ping() > 0
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        instance.send("the parent goes on")
        assert instance.recv(timeout=10) == (Event.Message, "the parent goes on")

    def test_closed_in_the_moment_in_which_the_connection_is_there(self, server, monkeypatch):
        make = ConnectionManager._open

        def closed_behind(self, *args, **options):
            connection = make(self, *args, **options)
            self.close()
            return connection

        monkeypatch.setattr(ConnectionManager, "_open", closed_behind)
        client = PieClient(server.uri)
        with pytest.raises(PieConnectionError, match="closed while it was connecting"):
            client.connect()
        assert client.closed
