"""Instances on the real server: launching, talking with them, leaving them, finding them again, ending them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread

import pytest

from pie_sync import (
    AttachError,
    Blob,
    Event,
    Instance,
    InstanceEnded,
    InstanceFailed,
    InstanceInfo,
    LaunchError,
    PieClient,
    PieConnectionError,
    PieTimeoutError,
    TerminateError,
)
from tests.lost_ends import probe_soon

from . import harness, inferlets

LIMIT = inferlets.EVENT_LIMIT
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def uri(real_server: harness.RealServer) -> str:
    with PieClient(real_server.uri) as client:
        inferlets.install(client)
    return real_server.uri


@pytest.fixture
def client(uri: str) -> Iterator[PieClient]:
    with PieClient(uri) as client:
        client.authenticate("alice")
        yield client


@pytest.fixture
def other(uri: str) -> Iterator[PieClient]:
    """Another connection."""
    with PieClient(uri) as client:
        client.authenticate("bob")
        yield client


def talking(client: PieClient) -> Instance:
    """Launch the program that answers messages, and wait until it does."""
    instance = client.launch_instance_from_registry("talk")
    assert instance.recv(LIMIT) == (Event.Message, "ready")
    return instance


def listed(client: PieClient, instance_id: str) -> list[InstanceInfo]:
    return [info for info in client.list_instances() if info.id == instance_id]


def wait_until_gone(client: PieClient, instance_id: str) -> None:
    """Ask for the list until it doesn't have the instance: the server tells nobody else of its end."""
    deadline = time.monotonic() + LIMIT
    while listed(client, instance_id):
        assert time.monotonic() < deadline, "the instance goes on running"


class TestArguments:
    @pytest.mark.parametrize(
        ("args", "given"),
        [
            ((), "{}"),
            ([], "{}"),
            ({}, "{}"),
            ({"text": "ä", "part": 0.5, "none": None, "list": [{"a": True}]}, None),
            (["--max-tokens", "5", "--greedy"], '{"max_tokens": 5, "greedy": true}'),
            (["--part", "0.5", "-n", "x", "--no", "false"], '{"part": 0.5, "n": "x", "no": false}'),
            (["one", "2", "--three", "true"], '{"three": true, "_positional": ["one", 2]}'),
            ({"_positional": ["one"]}, '{"_positional": ["one"]}'),
        ],
    )
    def test_what_the_program_gets(self, client: PieClient, args: object, given: str | None):
        import json

        completed = client.launch_instance_from_registry("arguments", args).wait(LIMIT, check=True)  # type: ignore[arg-type]
        assert json.loads(completed.message) == (args if given is None else json.loads(given))

    def test_what_json_cannot_say_is_not_launched(self, client: PieClient):
        with pytest.raises(TypeError, match="not serialisable as JSON"):
            client.launch_instance_from_registry("arguments", {"x": b"bytes"})
        with pytest.raises(ValueError, match="not serialisable as JSON"):
            client.launch_instance_from_registry("arguments", {"x": float("nan")})


class TestEvents:
    def test_output_and_messages_and_result(self, client: PieClient):
        events = list(client.launch_instance_from_registry("streams").events(LIMIT))
        assert (
            "".join(str(data) for event, data in events if event is Event.Stdout) == "to stdout\naä€😀\n\nno end"
        )
        assert "".join(str(data) for event, data in events if event is Event.Stderr) == "to stderr\n"
        assert events[-1] == (Event.Completed, "")

    def test_asking_whether_a_silent_instance_runs_does_it_no_harm(
        self, client: PieClient, monkeypatch: pytest.MonkeyPatch
    ):
        probe_soon(monkeypatch)
        instance = talking(client)
        sent = client.stats().messages_sent
        with pytest.raises(PieTimeoutError, match="the server lists it as running"):
            instance.recv(2)
        assert client.stats().messages_sent >= sent + 3
        instance.send("still here")
        assert instance.recv(LIMIT)[0] is Event.Message
        instance.terminate()
        assert instance.wait(LIMIT).event is Event.Aborted

    def test_messages_both_ways(self, client: PieClient):
        instance = talking(client)
        for text in ("one", "", "ä€😀\n"):
            instance.send(text)
            assert instance.recv(LIMIT) == (Event.Message, "heard " + text)
        with pytest.raises(PieTimeoutError):
            instance.recv(timeout=0)
        instance.send("stop")
        assert not instance.finished
        completed = instance.wait(LIMIT, check=True)
        assert (completed.message, completed.stdout) == ('{"stopped": true}', "good-bye\n")
        assert instance.finished

    def test_messages_sent_before_the_program_receives_wait_for_it(self, client: PieClient):
        instance = client.launch_instance_from_registry("talk")
        for number in range(50):
            instance.send(str(number))
        instance.send("stop")
        assert instance.wait(LIMIT).messages == ("ready", *(f"heard {number}" for number in range(50)))

    def test_a_message_of_nearly_7_mib_both_ways(self, client: PieClient):
        instance = talking(client)
        text = "x" * (7 * 1024 * 1024 - 1000)
        instance.send(text)
        event, data = instance.recv(LIMIT)
        assert event is Event.Message
        assert data == "heard " + text

    def test_iteration(self, client: PieClient):
        instance = client.launch_instance_from_registry("many", {"count": 500, "size": 0})
        events = list(instance)
        assert events == [*((Event.Message, str(number)) for number in range(500)), (Event.Completed, "500")]
        with pytest.raises(InstanceEnded):
            instance.recv(LIMIT)

    def test_a_text_that_is_returned_arrives_as_it_is(self, client: PieClient):
        completed = client.launch_instance_from_registry("text", {"text": "ä"}).wait(LIMIT, check=True)
        assert completed.message == "not JSON: ä"

    def test_an_exception(self, client: PieClient):
        instance = client.launch_instance_from_registry("fail")
        completed = instance.wait(LIMIT)
        assert completed.event is Event.Exception
        assert completed.message.startswith("ValueError: no luck today\nTraceback")
        with pytest.raises(InstanceFailed) as failure:
            instance.wait(LIMIT, check=True)
        assert failure.value.completed == completed

    def test_two_hundred_launches_on_one_connection(self, client: PieClient):
        for number in range(200):
            completed = client.launch_instance_from_registry("arguments", {"number": number}).wait(LIMIT)
            assert (completed.event, completed.message) == (Event.Completed, f'{{"number": {number}}}')

    def test_a_message_that_is_too_long_for_the_server_is_refused(self, client: PieClient):
        instance = talking(client)
        with pytest.raises(ValueError, match="7 MiB"):
            instance.send("x" * (7 * 1024 * 1024))
        instance.terminate()
        assert instance.wait(LIMIT).event is Event.Aborted


class TestBlobs:
    @pytest.mark.parametrize("size", [1, 262_144, 262_145, 3_000_000])
    def test_both_ways(self, client: PieClient, size: int):
        blob = inferlets.random_bytes(size)
        instance = client.launch_instance_from_registry("blobs")
        assert instance.recv(LIMIT) == (Event.Message, "waiting")
        event, data = inferlets.deliver(instance, blob)
        assert event is Event.Blob
        assert isinstance(data, Blob)
        assert data == blob
        assert data.name is None
        assert instance.wait(LIMIT).message == str(size)

    def test_an_empty_one_reaches_the_program_but_never_the_client(self, client: PieClient):
        instance = client.launch_instance_from_registry("blobs")
        assert instance.recv(LIMIT) == (Event.Message, "waiting")
        assert inferlets.deliver(instance, b"") == (Event.Completed, "0")

    def test_from_a_path(self, client: PieClient, tmp_path: Path):
        path = tmp_path / "blob"
        path.write_bytes(b"x" * 700_000)
        sent = []
        instance = client.launch_instance_from_registry("blobs")
        assert instance.recv(LIMIT) == (Event.Message, "waiting")
        instance.upload_blob(path, progress=lambda *numbers: sent.append(numbers))
        assert sent == [(262_144, 700_000), (524_288, 700_000), (700_000, 700_000)]
        instance.terminate()

    def test_names(self, client: PieClient, tmp_path: Path):
        names = ["picture.png", "../../etc/passwd", ""]
        instance = client.launch_instance_from_registry("named-blobs", {"names": names})
        assert instance.recv(LIMIT) == (Event.Message, "ready")
        instance.send("go on")
        blobs = instance.wait(LIMIT, check=True).blobs
        assert blobs == tuple(b"blob of " + name.encode() for name in names)
        # The server leaves only what is a file's name.
        assert [blob.name for blob in blobs if isinstance(blob, Blob)] == ["picture.png", "passwd", "output"]
        saved = [blob.save(tmp_path / "here") for blob in blobs if isinstance(blob, Blob)]
        assert [path.relative_to(tmp_path) for path in saved] == [
            Path("here", name) for name in ("picture.png", "passwd", "output")
        ]


class TestTerminate:
    def test_by_itself(self, client: PieClient):
        instance = talking(client)
        instance.terminate()
        assert list(instance.events(LIMIT)) == [(Event.Aborted, "Signal")]
        instance.terminate()
        assert not listed(client, instance.id)

    def test_by_id(self, client: PieClient):
        instance = talking(client)
        client.terminate_instance(instance.id)
        assert instance.wait(LIMIT).event is Event.Aborted

    def test_by_another_client(self, client: PieClient, other: PieClient):
        instance = talking(client)
        other.terminate_instance(instance.id)
        assert instance.wait(LIMIT).event is Event.Aborted
        with pytest.raises(InstanceFailed, match="Aborted: Signal"):
            instance.wait(LIMIT, check=True)

    def test_an_id_of_nobody_is_told(self, client: PieClient):
        with pytest.raises(TerminateError, match="Process not found"):
            client.terminate_instance(NOBODY)
        with pytest.raises(TerminateError, match="Invalid process ID"):
            client.terminate_instance("nonsense")

    def test_nothing_can_be_sent_after_the_end(self, client: PieClient):
        instance = talking(client)
        instance.send("stop")
        instance.wait(LIMIT)
        with pytest.raises(InstanceEnded):
            instance.send("too late")
        with pytest.raises(InstanceEnded):
            instance.upload_blob(b"too late")
        assert client.ping() > 0


class TestDetached:
    def test_launch_and_attach(self, client: PieClient, other: PieClient):
        launched = client.launch_instance_from_registry("talk", {"x": 1}, detached=True)
        for call in (launched.recv, launched.wait, lambda: launched.send("x"), lambda: launched.upload_blob(b"x")):
            with pytest.raises(AttachError, match="attach to it first"):
                call()
        instance = other.attach_instance(launched.id)
        instance.send("hello")
        # What it sent while nobody was attached is lost: here its "ready", if it came before the attach.
        messages = [str(instance.recv(LIMIT)[1])]
        if messages == ["ready"]:
            messages.append(str(instance.recv(LIMIT)[1]))
        assert messages[-1] == "heard hello"
        instance.send("stop")
        completed = instance.wait(LIMIT, check=True)
        assert completed.message == '{"stopped": true}'
        # What it prints is not sent even now.
        assert completed.stdout == ""

    def test_by_hash(self, client: PieClient):
        program_hash = client.upload_program(inferlets.TALK.source.encode(), manifest=inferlets.TALK.manifest())
        launched = client.launch_instance(program_hash, detached=True)
        assert listed(client, launched.id)
        launched.terminate()
        wait_until_gone(client, launched.id)

    def test_identical_ones_at_the_same_moment_are_told_apart(self, client: PieClient, other: PieClient):
        together = Barrier(6)

        def launch(number: int) -> str:
            together.wait(LIMIT)
            each = (client, other)[number % 2]
            return each.launch_instance_from_registry("talk", {"x": 1}, detached=True).id

        with ThreadPoolExecutor(6) as threads:
            ids = list(threads.map(launch, range(6)))
        assert len(set(ids)) == 6
        running = {info.id: info for info in client.list_instances()}
        for instance_id in ids:
            # The arguments as they were given, without what the launch was marked with.
            assert running[instance_id].arguments == ('{"x": 1}',)
            other.terminate_instance(instance_id)

    def test_each_of_many_gets_its_own(self, client: PieClient):
        launched = [
            client.launch_instance_from_registry("talk", {"number": number}, detached=True) for number in range(5)
        ]
        for number, instance in enumerate(launched):
            (info,) = listed(client, instance.id)
            assert info.arguments == (f'{{"number": {number}}}',)
            instance.terminate()

    def test_one_that_ends_at_once_is_found_or_said_to_have_ended(self, client: PieClient):
        ids, reasons = [], set()
        for _ in range(20):
            try:
                ids.append(client.launch_instance_from_registry("arguments", detached=True).id)
            except LaunchError as error:
                reasons.add(error.reason)
        assert len(set(ids)) == len(ids)
        assert all("has ended before its id could be found" in reason for reason in reasons)
        assert client.ping() > 0

    def test_attach_is_refused(self, client: PieClient, other: PieClient):
        instance = talking(client)
        with pytest.raises(AttachError, match="already attached"):
            client.attach_instance(instance.id)
        with pytest.raises(AttachError, match="Cannot attach: already attached"):
            other.attach_instance(instance.id)
        instance.send("still there?")
        assert instance.recv(LIMIT) == (Event.Message, "heard still there?")
        instance.send("stop")
        instance.wait(LIMIT)
        with pytest.raises(AttachError, match="(Process|Service) not found"):
            other.attach_instance(instance.id)
        with pytest.raises(AttachError, match="Process not found"):
            other.attach_instance(NOBODY)
        with pytest.raises(AttachError, match="Invalid process_id"):
            other.attach_instance("nonsense")

    def test_a_client_that_was_refused_ends_the_instance_when_it_closes(self, client: PieClient, uri: str):
        instance = talking(client)
        with PieClient(uri) as refused:
            with pytest.raises(AttachError):
                refused.attach_instance(instance.id)
        assert instance.wait(LIMIT).event is Event.Aborted


class TestList:
    def test_what_it_says(self, client: PieClient, other: PieClient):
        instance = client.launch_instance_from_registry("talk", {"x": "ä"})
        for each in (client, other):  # everybody sees everybody's
            (info,) = listed(each, instance.id)
            assert info.program == "talk@1.0.0"
            assert info.arguments == ('{"x": "\\u00e4"}',)
            assert info.username == "internal"  # whoever launched it
            assert info.elapsed_secs is not None
            assert (info.status, info.kv_pages_used) == (None, None)
        instance.send("stop")
        instance.wait(LIMIT)
        deadline = time.monotonic() + LIMIT  # the server takes a moment to strike it off
        while listed(client, instance.id):
            assert time.monotonic() < deadline


class TestLostConnection:
    def test_close_ends_what_was_attached(self, client: PieClient, uri: str):
        with PieClient(uri) as leaving:
            launched, attached, detached = (
                talking(leaving).id,
                leaving.attach_instance(leaving.launch_instance_from_registry("talk", detached=True).id).id,
                leaving.launch_instance_from_registry("talk", detached=True).id,
            )
            assert listed(client, launched)
            assert listed(client, attached)
        wait_until_gone(client, launched)
        wait_until_gone(client, attached)
        assert listed(client, detached)
        client.terminate_instance(detached)

    def test_close_wakes_whoever_waits(self, uri: str):
        with PieClient(uri) as leaving:
            instance = talking(leaving)
            failures = []

            def wait() -> None:
                try:
                    instance.wait(LIMIT)
                except PieConnectionError as error:
                    failures.append(error)

            thread = Thread(target=wait)
            thread.start()
            leaving.close()
            thread.join(LIMIT)
        assert len(failures) == 1
