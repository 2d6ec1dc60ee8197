"""close(), and every other end of a client, at any moment and from anywhere."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref

import pytest

from pie_sync import Event, PieClient, PieConnectionError
from tests.faults.raw_server import RawPeer, raw_server
from tests.faults.threads import run_all, wait_until_it_waits
from tests.programs import no_component

CHUNK = 256 * 1024


def closed_during(client: PieClient, call, function_name: str) -> BaseException:
    """Close the client while another thread waits in ``call``, in a function; return what the call raised."""
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until_it_waits(thread, function_name)
    begin = time.monotonic()
    client.close()
    assert time.monotonic() - begin < 2
    thread.join(5)
    assert not thread.is_alive()
    (error,) = outcome
    return error


class TestWhileAnotherThread:
    @pytest.mark.parametrize("how", ["recv", "iteration", "events", "wait"])
    def test_receives(self, client, how):
        instance = client.launch_instance_from_registry("echo")
        call, function = {
            "recv": (instance.recv, "recv"),
            "iteration": (lambda: list(instance), "_recv_slowly"),
            "events": (lambda: list(instance.events(60)), "_recv_slowly"),
            "wait": (instance.wait, "wait"),
        }[how]
        error = closed_during(client, call, function)
        assert isinstance(error, PieConnectionError)
        assert str(error) == "the client was closed"

    def test_requests(self, client):
        error = closed_during(client, lambda: client.query("the weather", "", timeout=None), "query")
        assert isinstance(error, PieConnectionError)
        assert str(error) == "the client was closed"

    @pytest.mark.parametrize("chunks", [1, 256], ids=["waits for the answer", "waits for room"])
    def test_uploads(self, chunks):
        with raw_server(lambda peer: peer.authenticate()) as uri:
            client = PieClient(uri)
            client.connect()
            client.authenticate("alice")
            error = closed_during(
                client,
                lambda: client.upload_program(no_component(chunks * CHUNK), timeout=None),
                "upload_program",
            )
            assert isinstance(error, PieConnectionError)
            assert "the client was closed" in str(error)

    def test_closes(self, client):
        run_all(*[client.close] * 8)
        assert client.closed

    def test_uses_it_hard(self, server):
        """Threads that do one thing after the other, with the end coming at a random moment."""
        for round_number in range(20):
            client = PieClient(server.uri)
            client.connect()
            client.authenticate("alice")
            busy = threading.Barrier(5)

            def use(client=client, busy=busy) -> None:
                try:
                    client.ping()
                    busy.wait(10)
                    while True:
                        client.launch_instance_from_registry("flood", ["50"]).wait(10)
                        client.ping()
                except PieConnectionError:
                    pass

            def close(client=client, busy=busy, delay=round_number / 1000) -> None:
                busy.wait(10)
                threading.Event().wait(delay)
                client.close()

            run_all(close, *[use] * 4)


class TestFromACallback:
    def test_of_an_upload(self, client):
        with pytest.raises(PieConnectionError):
            client.upload_program(no_component(8 * CHUNK), progress=lambda sent, total: client.close())
        assert client.closed

    def test_at_the_end_of_an_upload(self, client):
        with pytest.raises(PieConnectionError):
            client.upload_program(no_component(CHUNK), progress=lambda sent, total: client.close())

    def test_that_uses_the_client_otherwise(self, client):
        instance = client.launch_instance_from_registry("blob-echo")
        blob = bytes(3 * CHUNK)
        instance.upload_blob(blob, progress=lambda sent, total: client.ping())
        assert instance.recv(10) == (Event.Blob, blob)


class TestAfterwards:
    def test_everything_says_so(self, client):
        instance = client.launch_instance_from_registry("echo")
        client.close()
        client.close()
        for call in (
            client.ping,
            client.list_instances,
            lambda: client.launch_instance_from_registry("echo"),
            lambda: client.upload_program(b"\0asm"),
            instance.recv,
            instance.wait,
            instance.terminate,
            lambda: list(instance),
            lambda: instance.send("x"),
            lambda: instance.upload_blob(b"x"),
        ):
            with pytest.raises(PieConnectionError, match="the client was closed|the client is not connected"):
                call()

    def test_what_had_arrived_is_still_there(self, server, client):
        instance = client.launch_instance_from_registry("flood", ["1000"])
        while client.list_instances():
            pass  # until it has ended; its events came before that answer
        client.close()
        assert len(list(instance)) == 1001
        assert instance.finished

    def test_an_exception_in_the_block_closes_and_passes(self, server):
        for kind in (KeyError, KeyboardInterrupt, SystemExit, GeneratorExit):
            with pytest.raises(kind):
                with PieClient(server.uri) as client:
                    client.authenticate("alice")
                    raise kind
            assert client.closed

    def test_a_lost_connection_closes_quietly(self, server):
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            server.drop_connections()
            with pytest.raises(PieConnectionError):
                while True:
                    client.ping()
        client.close()


class TestAsGarbage:
    def test_a_client_that_is_forgotten_is_collected(self, server):
        client = PieClient(server.uri)
        client.connect()
        gone = weakref.ref(client)
        with pytest.warns(ResourceWarning, match="unclosed <PieClient"):
            del client
            gc.collect()
        assert gone() is None

    def test_where_warnings_are_errors(self, server, monkeypatch):
        before = set(threading.enumerate())
        client = PieClient(server.uri)
        client.connect()
        [reader] = [thread for thread in set(threading.enumerate()) - before if "reader" in thread.name]
        raised = []
        monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: raised.append(unraisable.exc_type))
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            del client
            gc.collect()
        assert raised == [ResourceWarning]
        reader.join(10)
        assert not reader.is_alive()

    def test_in_a_cycle_and_with_instances(self, server):
        client = PieClient(server.uri)
        client.connect()
        client.authenticate("alice")
        client.itself = client
        instances = [client.launch_instance_from_registry("echo") for _ in range(3)]
        client.instances = instances
        with pytest.warns(ResourceWarning, match="unclosed <PieClient"):
            del client, instances
            gc.collect()

    def test_an_instance_keeps_its_connection(self, server):
        client = PieClient(server.uri)
        client.connect()
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("echo")
        del client
        gc.collect()
        instance.send("still here")
        assert instance.recv(10) == (Event.Message, "still here")
        with pytest.warns(ResourceWarning, match="unclosed <PieClient"):
            del instance
            gc.collect()

    def test_while_its_server_floods_it(self):
        def serve(peer: RawPeer) -> None:
            peer.authenticate()
            while True:
                peer.send(type="instance_event", instance_id="nobody's", event=0, message="x" * 100)

        with raw_server(serve) as uri:
            client = PieClient(uri)
            client.connect()
            client.authenticate("alice")
            with pytest.warns(ResourceWarning, match="unclosed <PieClient"):
                del client
                gc.collect()

    def test_a_client_that_never_connected_or_was_refused(self, recwarn):
        PieClient("ws://127.0.0.1:1")
        with pytest.raises(PieConnectionError):
            PieClient("ws://127.0.0.1:1").connect()
        with pytest.raises(ValueError, match="server_uri"):
            PieClient("nonsense")
        gc.collect()
        assert not recwarn.list


class TestAtTheEndOfTheInterpreter:
    """The interpreter ends promptly, whatever was left open. An unclosed client warns."""

    def run(self, server, program: str) -> str:
        program = textwrap.dedent(
            """\
            import sys, threading
            from pie_sync import PieClient
            client = PieClient(sys.argv[1])
            client.connect()
            client.authenticate("alice")
            """
        ) + textwrap.dedent(program)
        process = subprocess.Popen(
            [sys.executable, "-W", "always", "-c", program, server.uri],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "at the end\n"
            begin = time.monotonic()
            _, errors = process.communicate(timeout=30)
            assert time.monotonic() - begin < 2
        assert process.returncode == 0
        assert "Traceback" not in errors
        assert "Fatal" not in errors
        return errors

    def test_without_closing(self, server):
        assert "ResourceWarning: unclosed <PieClient" in self.run(server, "print('at the end', flush=True)")

    def test_while_events_pour_in(self, server):
        program = """
            instance = client.launch_instance_from_registry("flood", ["1000000"])
            for number, _ in enumerate(instance):
                if number == 1000:
                    break
            print("at the end", flush=True)
        """
        self.run(server, program)

    def test_while_daemon_threads_use_it(self, server):
        program = """
            def work():
                while True:
                    client.ping()
            for _ in range(4):
                threading.Thread(target=work, daemon=True).start()
            instance = client.launch_instance_from_registry("echo")
            threading.Thread(target=instance.recv, daemon=True).start()
            client.ping()
            print("at the end", flush=True)
        """
        self.run(server, program)

    def test_closed_by_atexit(self, server):
        program = """
            import atexit
            atexit.register(client.close)
            print("at the end", flush=True)
        """
        assert "ResourceWarning" not in self.run(server, program)
