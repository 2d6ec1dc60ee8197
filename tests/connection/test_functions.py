"""Functions on servers that have them already, that refuse them, and that run none."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from pie_sync import InstanceFailed, LaunchError, PieClient, PieError, PieTimeoutError, UploadError, inferlet
from pie_sync._connection import manager
from pie_sync._connection.programs import Programs
from pie_sync.batch import run_batch
from pie_sync.testing import LocalServer


@inferlet
def double(text: str, times: int = 2) -> str:
    return text * times


def plain(text: str) -> dict:
    return {"text": text}


@inferlet(version="1.0.0")
def released(text: str) -> str:
    return text


@contextmanager
def connected(server: LocalServer, **options):
    with PieClient(server.uri, **options) as client:
        client.authenticate("alice")
        yield client


@pytest.fixture
def server():
    """A server that has one of the functions: a Python program in this process stands in for it."""
    import json

    with LocalServer(protocol="process-0.5") as server:

        @server.program(double.program)
        def stand_in(context):
            given = json.loads(context.args[0])
            if given["text"] == "fail":
                raise RuntimeError("told to")
            return double(**given)

        yield server


@pytest.fixture
def client(server):
    with connected(server) as client:
        yield client


class TestOnOneThatHasIt:
    def test_run_map_and_launch(self, client):
        result = client.run(double, {"text": "ab"})
        assert (result.value, result.ok, result.input) == ("abab", True, {"text": "ab"})
        assert client.run(double, ["--text", "5", "--times", "3"]).value == "555"
        inputs = [{"text": str(number)} for number in range(20)]
        results = list(client.map(double, inputs, ordered=False, concurrency=4))
        assert sorted(result.input["text"] * 2 for result in results) == sorted(result.value for result in results)
        assert client.launch(double, double.args("x", times=1)).wait(10).value == "x"

    def test_the_second_run_asks_nothing(self, client):
        counts = []
        for _ in range(3):
            before = client.stats().messages_sent
            client.run(double, {"text": "ab"})
            counts.append(client.stats().messages_sent - before)
        assert counts == [2, 1, 1]  # a question and a launch, and then launches

    def test_a_failure_tells_its_input(self, client):
        with pytest.raises(InstanceFailed) as caught:
            client.run(double, {"text": "fail"})
        assert caught.value.input == {"text": "fail"}
        assert len(repr(caught.value)) < 300
        inputs = [{"text": text} for text in ("a", "fail", "b")]
        outcomes = list(client.map(double, inputs, ordered=False, return_exceptions=True))
        [error] = [one for one in outcomes if isinstance(one, PieError)]
        assert error.input == {"text": "fail"}

    @pytest.mark.parametrize("args", [{}, {"text": 5}, {"txt": "a"}, ["a"], {"text": "a", "times": "2"}])
    def test_arguments_that_do_not_fit_are_not_sent(self, client, args):
        sent = client.stats().messages_sent
        for call in (client.run, client.launch):
            with pytest.raises(TypeError, match=r"double\(\)"):
                call(double, args)
        assert client.stats().messages_sent == sent
        # Of many inputs, the one that does not fit is told at its place.
        results = client.map(double, [{"text": "a"}, args])
        assert next(results).value == "aa"
        with pytest.raises(TypeError, match=r"double\(\)"):
            next(results)

    def test_on_all_workers_of_an_executor(self, server):
        inputs = [{"text": str(number)} for number in range(5)]
        results = run_batch(
            server.uri, double, inputs, partial(ThreadPoolExecutor, 2), username="alice", shard_size=2
        )
        assert [result.value for result in results] == ["00", "11", "22", "33", "44"]

    def test_on_several_servers_and_again_from_the_journal(self, server, client, tmp_path):
        inputs = [{"text": str(number)} for number in range(5)]
        for _ in range(2):
            results = run_batch(
                [server.uri, server.uri], double, inputs, ThreadPoolExecutor, results=tmp_path / "batch.jsonl"
            )
            assert [result.value for result in results] == ["00", "11", "22", "33", "44"]
            results = client.map(double, inputs, results=tmp_path / "map.jsonl")
            assert [(result.value, result.input) for result in results][1] == ("11", {"text": "1"})
        with pytest.raises(ValueError, match=f"has results of program '{double.program}', and this batch has"):
            client.map(double.program, inputs, results=tmp_path / "map.jsonl").close()
            client.map("another@1.0.0", inputs, results=tmp_path / "map.jsonl")

    def test_program_exists(self, client):
        assert client.program_exists(double)
        assert client.program_exists(double.program)
        for other in (plain, released, "double@0.1.2", "ab" * 32):
            assert not client.program_exists(other)
        for mistake in ("double", "", "@", "@1"):
            with pytest.raises(ValueError, match="64 hexadecimal digits"):
                client.program_exists(mistake)
        with pytest.raises(TypeError):
            client.program_exists(5)


class TestUploads:
    @pytest.fixture
    def uploads(self, monkeypatch):
        """Lets the server take functions, and collects the names of those that are sent."""
        sent = []

        def send(programs, payload, manifest, limit, progress, *, overwrite=False):
            sent.append(manifest)
            self.sending.set()
            assert self.go_on.wait(10)

        self.sending, self.go_on = threading.Event(), threading.Event()
        monkeypatch.setattr(Programs, "send", send)
        return sent

    def test_two_threads_at_once_upload_once(self, client, uploads):
        outcomes = []

        def launch():
            try:
                client.run(plain, {"text": "a"}, timeout=20)
            except LaunchError as error:  # what was never sent isn't there
                outcomes.append(error)

        threads = [threading.Thread(target=launch) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert self.sending.wait(10)
        self.go_on.set()
        for thread in threads:
            thread.join(20)
        assert len(outcomes) == 4
        assert len(uploads) == 1

    def test_the_limit_of_the_upload_is_not_that_of_the_run(self, client, uploads, caplog):
        threading.Timer(1.2, self.go_on.set).start()
        with caplog.at_level(logging.INFO, "pie_sync"), pytest.raises(LaunchError):
            client.run(plain, {"text": "a"}, timeout=1)
        assert any("uploading the function plain@0." in message for message in caplog.messages)
        assert any("half a minute" in message for message in caplog.messages)

    def test_who_waits_for_another_thread_has_a_limit(self, client, uploads, monkeypatch):
        def upload():
            with pytest.raises(LaunchError):
                client.run(plain, {"text": "a"})

        thread = threading.Thread(target=upload)
        thread.start()
        assert self.sending.wait(10)
        monkeypatch.setattr(manager, "INSTALL_TIMEOUT", 0.2)
        client._manager._timeout = 0.2
        with pytest.raises(PieTimeoutError, match="another thread did not upload plain@0"):
            client.run(plain, {"text": "a"})
        client._manager._timeout = 30
        self.go_on.set()
        thread.join(20)

    def test_one_whose_upload_failed_is_uploaded_again(self, client):
        for _ in range(2):
            with pytest.raises(UploadError, match="no python language component"):
                client.run(plain, {"text": "a"})


class TestWhereNoFunctionsRun:
    def test_local_server_says_what_does(self, client):
        for program in (plain, released):
            with pytest.raises(UploadError, match=r"LocalServer runs no functions.*EngineServer.*hint: install"):
                client.run(program, {"text": "a"})
            assert not client.program_exists(program)

    @pytest.mark.parametrize(("protocol", "name"), [("instance", "up to 0.2"), ("process", "0.3 or 0.4")])
    def test_servers_up_to_0_4(self, protocol, name):
        with LocalServer(protocol=protocol) as server, connected(server) as client:
            sent = client.stats().messages_sent
            for call in (client.run, client.launch, lambda program, args: client.map(program, [args])):
                with pytest.raises(LaunchError, match=rf"Pie {name} and runs WebAssembly only.*run on Pie 0\.5"):
                    call(plain, {"text": "a"})
            assert not client.program_exists(plain)
            assert client.stats().messages_sent == sent

    def test_at_a_path_that_may_lead_to_a_0_5(self):
        with (
            LocalServer(protocol="process-0.5") as server,
            PieClient(server.uri + "/v1/ws", protocol="process") as client,
        ):
            client.authenticate("alice")
            with pytest.raises(UploadError, match="no python language component"):
                client.run(plain, {"text": "a"})

    def test_a_version_that_is_taken(self, client, server):
        @server.program("released@1.0.0")
        def other(context):
            return ""

        with pytest.raises(UploadError, match="is something else on this server: give .* another version"):
            client.run(released, {"text": "a"})
