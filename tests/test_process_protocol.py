"""PieClient on the process protocol, against LocalServer in both its flavours."""

from __future__ import annotations

import json
import logging
import threading
import time

import msgpack
import pytest
from blake3 import blake3

from pie_sync import (
    AttachError,
    AuthenticationError,
    Blob,
    Event,
    InstanceEnded,
    InstanceInfo,
    LaunchError,
    PieClient,
    PieConnectionError,
    PieTimeoutError,
    ProtocolError,
    TerminateError,
    UploadError,
)
from pie_sync.testing import LocalServer, ProgramContext
from pie_sync.testing._dialects import process as _process_dialect
from tests.faults.raw_server import RawPeer, binary_frame, raw_server
from tests.scripted import AUTHENTICATED
from tests.testing import programs

CHUNK = 256 * 1024
PATIENCE = 20.0  # seconds until something that should happen has failed to
SHORT = 0.3  # seconds to wait for what never comes

UNKNOWN_ID = "00000000-0000-0000-0000-000000000005"

only_0_4 = pytest.mark.parametrize("flavour", ["process"])
only_0_5 = pytest.mark.parametrize("flavour", ["process-0.5"])
every_protocol = pytest.mark.parametrize("flavour", ["instance", "process", "process-0.5"])


def manifest_of(name: str, version: str = "1.0.0") -> str:
    return f'[package]\nname = "{name}"\nversion = "{version}"\n'


class Requests:
    """What the server was asked for, by its log."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "pie_sync.testing.requests")
        self._caplog = caplog

    def _args(self):
        return [record.args for record in self._caplog.records if record.name == "pie_sync.testing.requests"]

    @property
    def upgrades(self) -> list[tuple[str, str | None]]:
        """The path and the identity of each request for a connection."""
        return [(args[0], args[1].get("x-pie-identity")) for args in self._args() if len(args) == 2]

    @property
    def messages(self) -> list[str]:
        """The type of each message that the server understood."""
        return [args[0] for args in self._args() if len(args) == 1]

    def clear(self) -> None:
        self._caplog.clear()


@pytest.fixture
def requests(caplog):
    return Requests(caplog)


@pytest.fixture(params=["process", "process-0.5"])
def flavour(request) -> str:
    return request.param


@pytest.fixture
def is_0_5(flavour) -> bool:
    return flavour == "process-0.5"


@pytest.fixture
def server(flavour):
    with LocalServer(protocol=flavour) as server:
        add_programs(server)
        yield server


@pytest.fixture
def early_server(flavour, monkeypatch):
    """A server whose answer to a launch comes after everything that the program does before it waits."""
    with LocalServer(protocol=flavour, early_events=True) as server:
        add_programs(server)
        yield server


@pytest.fixture
def client(server):
    with PieClient(server.uri) as client:
        client.authenticate("alice")
        yield client


@pytest.fixture
def other(server):
    """A second client of the same user."""
    with PieClient(server.uri) as other:
        other.authenticate("alice")
        yield other


def add_programs(server: LocalServer) -> None:
    server.program("given")(lambda context: json.dumps([context.args, context.input]))

    @server.program("echo")
    def echo(context: ProgramContext) -> str:
        while (message := context.receive()) != "stop":
            context.send(message)
        return "stopped"

    @server.program("everything")
    def everything(context: ProgramContext) -> dict[str, int]:
        context.stdout("out")
        context.stderr("err")
        context.send("message")
        context.send_blob(b"blob", name="../a.bin")
        context.send_blob(bytes(3 * CHUNK))
        return {"answer": 42}

    @server.program("sizes")
    def sizes(context: ProgramContext) -> str:
        """Say when a blob is awaited, and how large it was."""
        for _ in range(2):
            context.send("ready")
            context.send(str(len(context.receive_blob())))
        return "done"

    @server.program("failing")
    def failing(context: ProgramContext) -> None:
        raise RuntimeError("the oven is cold")


def stdout_of(instance) -> str:
    return instance.wait(PATIENCE, check=True).stdout


class TestDetection:
    @only_0_4
    def test_0_4_shows_in_authenticate(self, server, requests):
        with PieClient(server.uri) as client:
            assert client.protocol is None
            client.authenticate("alice")
            assert client.protocol == "process"
            assert client.ping() > 0
        assert requests.upgrades == [("/", None)]
        assert requests.messages == ["auth_identify", "ping"]

    @only_0_5
    def test_0_5_shows_in_connect(self, server, requests):
        with PieClient(server.uri) as client:
            assert client.protocol == "process"
            client.authenticate("alice")
            assert client.protocol == "process"
        assert requests.upgrades == [("/", None), ("/v1/ws", "default/pie-sync")]
        assert requests.messages == ["auth_identify"]

    def test_up_to_0_2_it_is_the_other_protocol(self, requests):
        with LocalServer() as server, PieClient(server.uri) as client:
            assert client.protocol is None
            client.authenticate("alice")
            assert client.protocol == "instance"
        assert requests.upgrades == [("/", None)]
        assert requests.messages == ["identification"]

    def test_the_protocol_can_be_told(self, server, requests, is_0_5):
        with PieClient(server.uri, protocol="process") as client:
            assert client.protocol == "process"
            client.authenticate("alice")
            assert client.ping() > 0
        assert [path for path, _ in requests.upgrades] == (["/", "/v1/ws"] if is_0_5 else ["/"])

    def test_the_identity_is_told_where_it_is_wanted(self, server, requests, is_0_5):
        with PieClient(server.uri, identity="tenant/me") as client:
            client.authenticate("alice")
        assert requests.upgrades[0] == ("/", None)
        assert requests.upgrades[1:] == ([("/v1/ws", "tenant/me")] if is_0_5 else [])

    @only_0_5
    def test_the_users_own_header_comes_first(self, server, requests):
        with PieClient(server.uri, headers={"X-Pie-Identity": "mine/own"}) as client:
            client.authenticate("alice")
        assert requests.upgrades[-1] == ("/v1/ws", "mine/own")

    @pytest.mark.parametrize("protocol", ["auto", "process"])
    def test_a_path_is_kept(self, server, requests, is_0_5, protocol):
        path = "/v1/ws" if is_0_5 else "/some/path"
        with PieClient(server.uri + path, protocol=protocol) as client:
            client.authenticate("alice")
            assert client.protocol == "process"
        assert requests.upgrades == [(path, "default/pie-sync" if is_0_5 else None)]

    @only_0_4
    def test_0_4_at_the_path_of_0_5(self, server, requests):
        with PieClient(server.uri + "/v1/ws", protocol="process") as client:
            client.authenticate("alice")
            assert client.ping() > 0
        assert [path for path, _ in requests.upgrades] == ["/v1/ws"]

    @only_0_5
    @pytest.mark.parametrize("protocol", ["auto", "process", "instance"])
    def test_a_wrong_path_is_an_error(self, server, requests, protocol):
        client = PieClient(server.uri + "/elsewhere", protocol=protocol)
        with pytest.raises(PieConnectionError, match="404"):
            client.connect()
        assert [path for path, _ in requests.upgrades] == ["/elsewhere"]

    @only_0_5
    def test_the_instance_protocol_does_not_look_for_0_5(self, server, requests):
        with pytest.raises(PieConnectionError, match="404"):
            PieClient(server.uri, protocol="instance").connect()
        assert requests.upgrades == [("/", None)]

    @only_0_4
    def test_the_wrong_protocol_is_told_within_the_time_limit(self, server):
        with LocalServer() as old_server:
            for uri, protocol in ((server.uri, "instance"), (old_server.uri, "process")):
                with PieClient(uri, protocol=protocol) as client:
                    started = time.monotonic()
                    with pytest.raises(PieTimeoutError, match="authenticate: no answer"):
                        client.authenticate("alice", timeout=SHORT)
                    assert SHORT <= time.monotonic() - started < PATIENCE


class TestAuthentication:
    def test_the_challenge_is_signed(self, key_file, private_key):
        users = {"alice": key_file.with_suffix(".pub").read_text()}
        with LocalServer(users, protocol="process") as server, PieClient(server.uri) as client:
            client.authenticate("alice", private_key)
            assert client.protocol == "process"
            assert client.list_instances() == []

    def test_refusals(self, key_file, private_key):
        users = {"alice": key_file.with_suffix(".pub").read_text(), "bob": []}
        with LocalServer(users, protocol="process") as server:
            for username, key, reason in (
                ("mallory", private_key, "refuses 'mallory': User 'mallory' is not authorized"),
                ("alice", None, "wants 'alice' to sign"),
                ("bob", private_key, "refuses the signature for 'bob'"),
            ):
                with PieClient(server.uri) as client, pytest.raises(AuthenticationError, match=reason):
                    client.authenticate(username, key)

    def test_before_it_only_0_5_can_be_used(self, server, is_0_5):
        with PieClient(server.uri) as client:
            if is_0_5:
                assert client.list_instances() == []
            else:
                with pytest.raises(AuthenticationError, match="authenticate first"):
                    client.list_instances()

    def test_the_internal_token(self):
        with LocalServer({}, internal_token="secret", protocol="process") as server:
            with PieClient(server.uri) as client:
                client.internal_authenticate("secret")
                assert client.protocol == "process"
                assert client.list_instances() == []
            with PieClient(server.uri) as client, pytest.raises(AuthenticationError, match="refuses the token"):
                client.internal_authenticate("guess")

    @only_0_5
    def test_0_5_has_no_internal_tokens(self, server, requests):
        with PieClient(server.uri) as client, pytest.raises(AuthenticationError, match="no internal tokens"):
            client.internal_authenticate("secret")
        assert requests.messages == []

    @only_0_5
    def test_an_error_in_a_text_frame_fails_the_request_that_it_must_be_about(self, server, caplog):
        # At a path of the user's it isn't known that this is 0.5: it has to say that it does not understand.
        with PieClient(server.uri + "/v1/ws", protocol="process") as client:
            started = time.monotonic()
            with pytest.raises(AuthenticationError, match="does not know internal tokens: bad client frame"):
                client.internal_authenticate("secret", timeout=PATIENCE)
            assert time.monotonic() - started < PATIENCE / 2
            assert any("could not understand" in record.message for record in caplog.records)
            client.authenticate("alice")
            assert client.ping() > 0


class TestPrograms:
    def test_without_a_manifest(self, client, other, requests):
        program_hash = client.upload_program(programs.HELLO)
        assert program_hash == blake3(programs.HELLO).hexdigest()
        for anybody in (client, other):
            assert anybody.program_exists(program_hash)
            assert not anybody.program_exists("0" * 64)
            assert stdout_of(anybody.launch_instance(program_hash, ["--n", "5"])).endswith('\n{"n": 5}\n')

    def test_with_a_manifest(self, client, other):
        program_hash = client.upload_program(programs.HELLO, manifest=manifest_of("hello", "1.2.3"))
        assert program_hash == blake3(programs.HELLO).hexdigest()
        for anybody in (client, other):
            assert anybody.program_exists(program_hash)
            assert stdout_of(anybody.launch_instance(program_hash)).endswith("\n{}\n")
            for name in ("hello@1.2.3", "hello"):
                assert stdout_of(anybody.launch_instance_from_registry(name)).endswith("\n{}\n")

    def test_a_manifest_from_a_file(self, client, tmp_path):
        path = tmp_path / "Pie.toml"
        path.write_text(manifest_of("hello"))
        client.upload_program(programs.HELLO, manifest=path)
        assert stdout_of(client.launch_instance_from_registry("hello@1.0.0")).endswith("\n{}\n")

    @pytest.mark.parametrize("manifest", [None, manifest_of("hello")], ids=["by hash", "by name"])
    def test_the_same_bytes_twice_are_free(self, client, other, requests, manifest):
        first = client.upload_program(programs.HELLO, manifest=manifest)
        requests.clear()
        seen = []
        for anybody in (client, other):
            again = anybody.upload_program(
                programs.HELLO, manifest=manifest, progress=lambda sent, total: seen.append((sent, total))
            )
            assert again == first
        assert "add_program" not in requests.messages
        assert set(seen) == {(len(programs.HELLO), len(programs.HELLO))}

    def test_other_bytes_under_a_taken_name(self, client, other):
        manifest = manifest_of("tool")
        client.upload_program(programs.HELLO, manifest=manifest)
        for anybody in (client, other):
            with pytest.raises(UploadError, match=r"tool@1\.0\.0 is taken by other bytes"):
                anybody.upload_program(programs.SUCCESS, manifest=manifest)
            assert stdout_of(anybody.launch_instance_from_registry("tool")) == "tool@1.0.0\n{}\n"
        other.upload_program(programs.SUCCESS, manifest=manifest, overwrite=True)
        assert stdout_of(other.launch_instance_from_registry("tool@1.0.0")) == ""
        with PieClient(client.server_uri) as third:
            third.authenticate("alice")
            with pytest.raises(UploadError, match="taken by other bytes"):
                third.upload_program(programs.HELLO, manifest=manifest)
            third.upload_program(programs.SUCCESS, manifest=manifest)  # what is there by now
            third.upload_program(programs.HELLO, manifest=manifest, overwrite=True)
            assert stdout_of(third.launch_instance_from_registry("tool")) == "tool@1.0.0\n{}\n"
        client.upload_program(programs.HELLO, manifest=manifest_of("tool", "1.0.1"))  # another version

    def test_a_hash_means_its_bytes_whatever_becomes_of_the_name(self, client, other):
        manifest = manifest_of("tool")
        program_hash = client.upload_program(programs.HELLO, manifest=manifest)
        other.upload_program(programs.SUCCESS, manifest=manifest, overwrite=True)
        for anybody in (client, other):
            assert stdout_of(anybody.launch_instance(program_hash)).endswith("\n{}\n")

    def test_a_name_means_what_is_installed_under_it(self, client, other):
        manifest = manifest_of("tool")
        client.upload_program(programs.HELLO, manifest=manifest)
        other.upload_program(programs.SUCCESS, manifest=manifest, overwrite=True)
        for anybody in (other, client):
            assert stdout_of(anybody.launch_instance_from_registry("tool@1.0.0")) == ""

    def test_after_an_upload_that_was_given_up(self, client):
        program = programs.module('(func (export "_start")) (@custom "padding" "' + "x" * (2 * CHUNK) + '")')

        def give_up(sent: int, total: int) -> None:
            raise KeyError(sent)

        with pytest.raises(KeyError):
            client.upload_program(program, progress=give_up)
        assert not client.program_exists(blake3(program).hexdigest())
        program_hash = client.upload_program(program)
        assert client.launch_instance(program_hash).wait(PATIENCE).event is Event.Completed

    def test_a_name_that_somebody_else_has_taken(self, server, client):
        server.program("tool@1.0.0")(lambda context: "from elsewhere")
        with pytest.raises(UploadError, match="taken"):
            client.upload_program(programs.HELLO, manifest=manifest_of("tool"))
        assert client.launch_instance_from_registry("tool").wait(PATIENCE).message == "from elsewhere"

    def test_a_name_that_can_not_be_asked_for(self, client):
        with pytest.raises(UploadError, match="expected 'name@major.minor.patch'"):
            client.upload_program(programs.HELLO, manifest=manifest_of("tool", "1"))

    def test_what_can_not_be_compiled(self, client):
        with pytest.raises(UploadError, match="Failed to compile WASM"):
            client.upload_program(b"no program")
        assert not client.program_exists(blake3(b"no program").hexdigest())
        manifest = manifest_of("tool")
        for _ in range(2):
            with pytest.raises(UploadError, match="Failed to compile WASM"):
                client.upload_program(b"no program", manifest=manifest)
        client.upload_program(programs.SUCCESS, manifest=manifest)
        assert stdout_of(client.launch_instance_from_registry("tool")) == ""

    def test_a_program_of_several_chunks(self, client):
        padding = '(@custom "padding" "' + "x" * (2 * CHUNK) + '")'
        program = programs.module(f'(func (export "_start")) {padding}')
        seen = []
        program_hash = client.upload_program(program, progress=lambda sent, total: seen.append(sent))
        assert seen == [CHUNK, 2 * CHUNK, len(program)]
        assert client.launch_instance(program_hash).wait(PATIENCE).event is Event.Completed

    @pytest.mark.parametrize("name", ["nope", "nope@0.1.0", "echo@9.9.9", "echo@latest", "mine/echo"])
    def test_an_unknown_name_can_not_be_launched(self, client, name):
        with pytest.raises(LaunchError, match=r"installed|Invalid program identifier"):
            client.launch_instance_from_registry(name)

    def test_an_unknown_hash_can_not_be_launched(self, client):
        with pytest.raises(LaunchError, match="is not installed"):
            client.launch_instance("0" * 64)


class TestArguments:
    @every_protocol
    @pytest.mark.parametrize("args", [["--max-tokens", "5", "--greedy"], {"max_tokens": 5, "greedy": True}])
    def test_a_list_or_a_mapping_on_every_protocol(self, client, flavour, args):
        given = json.loads(client.launch_instance_from_registry("given", args).wait(PATIENCE).message)
        if flavour == "instance":
            assert given == [["--max-tokens", "5", "--greedy"], None]
        else:
            assert given == [['{"max_tokens": 5, "greedy": true}'], {"max_tokens": 5, "greedy": True}]

    @pytest.mark.parametrize(
        ("args", "value"),
        [
            ([], {}),
            ({}, {}),
            (["x", "2"], {"_positional": ["x", 2]}),
            ({"deep": [{"é": None}]}, {"deep": [{"é": None}]}),
        ],
    )
    def test_more_of_them(self, client, args, value):
        given = json.loads(client.launch_instance_from_registry("given", args).wait(PATIENCE).message)
        assert given[1] == value

    def test_what_json_can_not_say(self, client, requests):
        for args, error in (({"x": {1}}, TypeError), ({"x": float("nan")}, ValueError)):
            with pytest.raises(error, match="JSON"):
                client.launch_instance_from_registry("given", args)
        assert "launch_process" not in requests.messages


class TestEvents:
    def test_all_of_them(self, client):
        events = list(client.launch_instance_from_registry("everything").events(PATIENCE))
        assert events == [
            (Event.Stdout, "out"),
            (Event.Stderr, "err"),
            (Event.Message, "message"),
            (Event.Blob, b"blob"),
            (Event.Blob, bytes(3 * CHUNK)),
            (Event.Completed, '{"answer": 42}'),
        ]

    def test_a_blob_may_have_a_name(self, client, tmp_path):
        named, unnamed = client.launch_instance_from_registry("everything").wait(PATIENCE).blobs
        assert isinstance(named, Blob)
        assert (named.name, unnamed.name) == ("../a.bin", None)
        assert named.save(tmp_path) == tmp_path / "a.bin"
        assert (tmp_path / "a.bin").read_bytes() == b"blob"

    def test_a_failure_is_an_exception(self, client):
        ended = client.launch_instance_from_registry("failing").wait(PATIENCE)
        assert (ended.event, ended.message) == (Event.Exception, "RuntimeError: the oven is cold")

    def test_a_failing_module(self, client):
        ended = client.launch_instance(client.upload_program(programs.FAILURE)).wait(PATIENCE)
        assert (ended.event, ended.message) == (Event.Exception, "exit code 3")
        assert (ended.stdout, ended.stderr) == ("out\n", "err\n")

    def test_a_conversation(self, client):
        instance = client.launch_instance_from_registry("echo")
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
                instance = client.launch_instance_from_registry("echo", {"number": number})
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
        ended = client.launch_instance_from_registry("everything").wait(PATIENCE)
        assert (ended.event, ended.message) == (Event.Completed, '{"answer": 42}')
        assert (ended.stdout, ended.stderr, ended.messages) == ("out", "err", ("message",))
        assert ended.blobs == (b"blob", bytes(3 * CHUNK))
        assert ended.blobs[0].name == "../a.bin"

    def test_none_goes_astray(self, client):
        outcomes = []

        def work(number: int) -> None:
            for _ in range(10):
                ended = client.launch_instance_from_registry("given", {"number": number}).wait(PATIENCE)
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
            instance = client.launch_instance_from_registry("numbers")
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
            client.launch_instance_from_registry("slow", timeout=0.1)
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

        instance = client.launch_instance_from_registry("chatty")
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
            assert client.launch_instance_from_registry("everything").wait(PATIENCE).blobs

    def test_the_end_is_known_even_when_nothing_more_is_kept(self, early_server, client):
        @early_server.program("chatty")
        def chatty(context: ProgramContext) -> str:
            for _ in range(100_000):
                context.send("x")
            return "done"

        instance = client.launch_instance_from_registry("chatty")
        kinds = set()
        while not instance.finished:
            try:
                kinds.add(instance.recv(1.0)[0])  # everything has arrived before the launch returned
            except ProtocolError as error:
                kinds.add(type(error))
        assert kinds == {Event.Message, ProtocolError, Event.Completed}

    def test_a_detached_launch_that_ends_at_once_can_not_be_found(self, client):
        with pytest.raises(LaunchError, match="has ended before its id could be found"):
            client.launch_instance_from_registry("given", detached=True)


class TestDetached:
    def test_it_can_be_attached_to(self, client, other):
        detached = client.launch_instance_from_registry("echo", {"n": 1}, detached=True)
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
                found.append(own.launch_instance_from_registry("echo", ["same"], detached=True).id)

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

        client.launch_instance_from_registry("writer", {"text": "ends in space "}, detached=True)
        assert written.wait(PATIENCE)
        assert seen == [{"text": "ends in space "}]

    def test_by_hash(self, client):
        detached = client.launch_instance(client.upload_program(programs.ECHO), detached=True)
        attached = client.attach_instance(detached.id)
        attached.terminate()
        assert attached.wait(PATIENCE).event is Event.Aborted

    def test_what_can_not_be_attached_to(self, client, other):
        instance = client.launch_instance_from_registry("echo")
        with pytest.raises(AttachError, match="Cannot attach: already attached"):
            other.attach_instance(instance.id)
        with pytest.raises(AttachError, match="Process not found"):
            client.attach_instance(UNKNOWN_ID)
        with pytest.raises(AttachError, match="Invalid process_id"):
            client.attach_instance("nonsense")

    def test_it_outlives_its_connection(self, server):
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            detached = client.launch_instance_from_registry("echo", detached=True)
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            instance = client.attach_instance(detached.id)
            instance.send("stop")
            assert instance.wait(PATIENCE).message == "stopped"


class TestList:
    def test_an_entry(self, client, is_0_5):
        instance = client.launch_instance_from_registry("echo", {"a": "é"})
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
        instance = client.launch_instance_from_registry("echo")
        with PieClient(server.uri) as bob:
            bob.authenticate("bob")
            assert [info.id for info in bob.list_instances()] == ([instance.id] if is_0_5 else [])


class TestTerminate:
    def test_ours(self, client):
        instance = client.launch_instance_from_registry("echo")
        instance.terminate()
        assert instance.wait(PATIENCE).event is Event.Aborted
        instance.terminate()

    def test_an_endless_loop(self, client):
        instance = client.launch_instance(client.upload_program(programs.ENDLESS_LOOP))
        assert instance.recv(PATIENCE) == (Event.Stdout, "up")
        instance.terminate()
        assert instance.recv(PATIENCE)[0] is Event.Aborted

    def test_by_another_client(self, client, other):
        instance = client.launch_instance_from_registry("echo")
        other.terminate_instance(instance.id)
        assert instance.wait(PATIENCE).event is Event.Aborted
        assert client.list_instances() == []

    def test_detached(self, client):
        client.launch_instance_from_registry("echo", detached=True).terminate()
        assert client.list_instances() == []

    def test_a_message_is_no_termination(self, server, client):
        server.program("says-signal")(lambda context: context.send("Signal"))
        ended = client.launch_instance_from_registry("says-signal").wait(PATIENCE)
        assert (ended.event, ended.messages) == (Event.Completed, ("Signal",))

    def test_refusals(self, client):
        with pytest.raises(TerminateError, match="Process not found"):
            client.terminate_instance(UNKNOWN_ID)
        with pytest.raises(TerminateError, match="Invalid process ID"):
            client.terminate_instance("nonsense")


class TestBlobs:
    @pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 1])
    def test_up(self, client, size):
        instance = client.launch_instance_from_registry("sizes")
        assert instance.recv(PATIENCE) == (Event.Message, "ready")
        seen = []
        instance.upload_blob(bytes(size), progress=lambda sent, total: seen.append((sent, total)))
        assert seen[-1] == (size, size)
        assert instance.recv(PATIENCE) == (Event.Message, str(size))

    def test_one_that_nobody_waits_for_is_lost(self, client):
        instance = client.launch_instance_from_registry("echo")
        instance.upload_blob(b"nobody wants it")
        instance.send("still there")
        assert instance.recv(PATIENCE) == (Event.Message, "still there")

    def test_after_the_end(self, client):
        instance = client.launch_instance_from_registry("given")
        instance.wait(PATIENCE)
        with pytest.raises(InstanceEnded):
            instance.upload_blob(b"too late")


class TestLostConnection:
    @only_0_5
    @pytest.mark.parametrize("how", ["closed", "dropped"])
    def test_0_5_ends_what_is_attached(self, server, client, other, how):
        instance = client.launch_instance_from_registry("echo")
        detached = other.launch_instance_from_registry("echo", detached=True)
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
    def test_0_4_detaches_what_is_attached(self, server, client):
        instance = client.launch_instance_from_registry("echo")
        instance.send("hello")
        assert instance.recv(PATIENCE) == (Event.Message, "hello")
        server.drop_connections()
        with pytest.raises(PieConnectionError):
            instance.recv(PATIENCE)
        client.connect()
        client.authenticate("alice")
        again = client.attach_instance(instance.id)
        again.send("stop")
        assert again.wait(PATIENCE).message == "stopped"

    @only_0_5
    def test_to_attach_twice_does_not_endanger_the_instance(self, client, other):
        instance = client.launch_instance_from_registry("echo")
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
        instance = client.launch_instance_from_registry("x")
        assert instance.recv(10) == (Event.Message, "the last one")
        with pytest.raises(PieConnectionError, match="stream aborted"):
            instance.recv(10)
