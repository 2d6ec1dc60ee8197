"""PieClient against LocalServer: what a user does with it."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import time
import uuid
import warnings
import weakref

import pytest
from blake3 import blake3

from pie_sync import (
    AttachError,
    AuthenticationError,
    ClientStats,
    Event,
    InstanceInfo,
    LaunchError,
    ParsedPrivateKey,
    PieClient,
    PieConnectionError,
    PieError,
    PieTimeoutError,
    RequestError,
    TerminateError,
)
from pie_sync.testing import LocalServer
from tests.programs import HELLO, add_programs

CHUNK = 256 * 1024


def text_of(instance) -> str:
    return "".join(data for event, data in instance if event is Event.Stdout)


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
        for value in (-1, float("nan")):
            with pytest.raises(ValueError, match=f"{name} must not be negative"):
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


class TestAuthentication:
    def test_without_keys(self, server):
        with PieClient(server.uri) as client:
            with pytest.raises(AuthenticationError, match=r"ping: authenticate first: client\.authenticate"):
                client.ping()
            client.authenticate("alice")
            client.authenticate("alice")
            with pytest.raises(
                AuthenticationError, match="already authenticated as 'alice': use another PieClient"
            ):
                client.authenticate("bob")
            assert client.ping() > 0

    @pytest.mark.parametrize("challenge_message", [False, True])
    def test_with_keys(self, private_key, key_file, challenge_message):
        users = {"alice": key_file.with_suffix(".pub").read_text()}
        with (
            LocalServer(users=users, challenge_message=challenge_message) as server,
            PieClient(server.uri) as client,
        ):
            with pytest.raises(AuthenticationError, match="refuses 'mallory'"):
                client.authenticate("mallory", private_key)
            with pytest.raises(AuthenticationError, match="private_key=ParsedPrivateKey"):
                client.authenticate("alice")
            client.authenticate("alice", private_key)
            assert client.ping() > 0

    def test_with_the_wrong_key(self, key_file, tmp_path):
        other = tmp_path / "other"
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", other], check=True)
        users = {"alice": key_file.with_suffix(".pub").read_text()}
        with LocalServer(users=users) as server, PieClient(server.uri) as client:
            with pytest.raises(AuthenticationError, match="refuses the signature for 'alice'"):
                client.authenticate("alice", ParsedPrivateKey.from_file(other))

    @pytest.mark.parametrize("kind", ["rsa", "ed25519", "ecdsa -b 256", "ecdsa -b 384"])
    def test_every_kind_of_key(self, kind, tmp_path):
        path = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", *kind.split(), "-N", "", "-f", path], check=True)
        users = {"alice": path.with_suffix(".pub").read_text()}
        with LocalServer(users=users) as server, PieClient(server.uri) as client:
            client.authenticate("alice", ParsedPrivateKey.from_file(path))
            assert client.ping() > 0

    def test_a_path_is_not_a_key(self, server, key_file):
        with PieClient(server.uri) as client:
            with pytest.raises(TypeError, match=r"ParsedPrivateKey\.from_file\(path\)"):
                client.authenticate("alice", str(key_file))

    def test_internal(self):
        with LocalServer(internal_token="the token") as server, PieClient(server.uri) as client:
            client.internal_authenticate("the token")
            assert client.ping() > 0
            with pytest.raises(AuthenticationError, match="already authenticated"):
                client.internal_authenticate("the token")

    @pytest.mark.parametrize("host", ["192.0.2.1", "pie.example", "[2001:db8::1]", "localhost.example"])
    def test_internal_in_plain_text_to_another_machine(self, host):
        client = PieClient(f"ws://{host}:8080")
        with pytest.raises(AuthenticationError, match="readable on its way.*allow_insecure_token=True") as caught:
            client.internal_authenticate("the token")
        assert "the token" not in str(caught.value).replace("the token would", "")
        with pytest.raises(PieConnectionError, match="not connected"):
            client.internal_authenticate("the token", allow_insecure_token=True)

    @pytest.mark.parametrize("uri", ["ws://127.8.9.1", "ws://[::1]:80", "ws://localhost:80", "wss://pie.example"])
    def test_internal_where_nobody_listens_in(self, uri):
        with pytest.raises(PieConnectionError, match="not connected"):
            PieClient(uri).internal_authenticate("the token")

    def test_internal_with_the_wrong_token(self):
        with LocalServer(internal_token="the token") as server, PieClient(server.uri) as client:
            with pytest.raises(AuthenticationError, match="refuses the token") as caught:
                client.internal_authenticate("not the token")
            assert "not the token" not in str(caught.value)
            with pytest.raises((AuthenticationError, PieConnectionError)):
                client.ping()


@pytest.mark.parametrize("variant", ["hash", "name"])
class TestProgramsInBothVariants:
    @pytest.fixture
    def client(self, variant):
        with LocalServer(variant=variant) as server, PieClient(server.uri) as client:
            add_programs(server)
            client.authenticate("alice")
            yield client

    def test_upload_and_launch(self, client):
        program_hash = blake3(HELLO).hexdigest()
        assert not client.program_exists(program_hash)
        assert client.upload_program(HELLO) == program_hash
        assert client.program_exists(program_hash)
        assert client.program_exists(program_hash.upper())
        assert text_of(client.launch_instance(program_hash, ["Pie"])) == "Hello, Pie!\n"
        assert text_of(client.launch_instance(program_hash.upper(), ("Pie",))) == "Hello, Pie!\n"

    def test_an_unknown_program(self, client):
        with pytest.raises(LaunchError) as caught:
            client.launch_instance("ab" * 32)
        assert caught.value.request == "launch_instance"
        assert caught.value.reason
        assert isinstance(caught.value, RequestError)
        with pytest.raises(LaunchError):
            client.launch_instance_from_registry("no-such-program")

    def test_from_the_registry(self, client):
        for name in ("talk", "std/talk", "talk@latest"):
            assert client.launch_instance_from_registry(name, ["a", "b"]).wait(10).message == "a b"

    def test_bytes_that_are_no_program(self, client):
        with pytest.raises(PieConnectionError, match="when it can't compile the program"):
            client.upload_program(b"not WebAssembly")


class TestUploads:
    def test_progress(self, client):
        # A custom section of WebAssembly may contain anything: this makes a program of any size.
        size = 3 * CHUNK
        section = b"\x00" + leb128(size + 5) + b"\x04junk" + bytes(size)
        program = HELLO + section
        calls = []
        client.upload_program(program, progress=lambda sent, total: calls.append((sent, total)))
        assert calls == [(min((n + 1) * CHUNK, len(program)), len(program)) for n in range(4)]

    def test_what_progress_raises_ends_the_upload_and_nothing_else(self, client):
        def give_up(sent, total):
            raise KeyError(sent)

        program = HELLO + b"\x00" + leb128(2 * CHUNK + 5) + b"\x04junk" + bytes(2 * CHUNK)
        with pytest.raises(KeyError):
            client.upload_program(program, progress=give_up)
        assert client.program_exists(client.upload_program(program))

    def test_from_files(self, client, tmp_path):
        path = tmp_path / "hello.wasm"
        path.write_bytes(HELLO)
        expected = blake3(HELLO).hexdigest()
        with open(path, "rb") as file:
            for source in (path, str(path), file, bytearray(HELLO), memoryview(HELLO)):
                assert client.upload_program(source) == expected
        with pytest.raises(FileNotFoundError):
            client.upload_program(tmp_path / "missing.wasm")

    def test_uploads_at_once_take_turns(self, client):
        programs = [
            HELLO + b"\x00" + leb128(CHUNK + 8) + b"\x04junk" + bytes(CHUNK) + b"%03d" % n for n in range(8)
        ]
        hashes, errors = {}, []

        def upload(program):
            try:
                hashes[program] = client.upload_program(program)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=upload, args=(program,)) for program in programs * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors
        assert hashes == {program: blake3(program).hexdigest() for program in programs}
        assert all(client.program_exists(value) for value in hashes.values())


def leb128(number: int) -> bytes:
    """WebAssembly's encoding of sizes."""
    encoded = b""
    while number > 127:
        encoded += bytes((number & 127 | 128,))
        number >>= 7
    return encoded + bytes((number,))


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


def wait_until(condition) -> None:
    """Wait for something that only asking can tell, and nothing announces."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
