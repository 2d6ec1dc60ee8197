"""Functions on the real server: what runs, what comes back, and what is sent for it."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from pie_sync import Event, Inferlet, InstanceFailed, PieClient, UploadError, inferlet
from pie_sync._functions import checks
from pie_sync.batch import run_batch

from . import harness

LIMIT = 30.0  # seconds, for one run


@inferlet
async def complete(prompt: str, max_tokens: int = 16) -> dict[str, Any]:
    """Stand in for a function that generates: "ä" and all."""
    from inferlet import session

    for number in range(max_tokens):
        session.send(f"{prompt} {number}")
    return {"text": prompt, "tokens": list(range(max_tokens))}


def gives(kind: str):
    return {
        "text": "5",
        "word": "ä no JSON",
        "none": None,
        "list": [1, [2.5, None, True, "x"]],
        "number": 5,
        "large": "x" * 500_000,
    }[kind]


def gives_text(kind: str) -> str:
    return {"text": "5", "empty": ""}[kind]


def gives_text_or_none(kind: str) -> str | None:
    return {"text": "5", "none": None}[kind]


def annotated_with_what_is_not_there(a: Nothing, b: list[NorThis] = ()) -> OfAll:  # type: ignore # noqa: F821
    def inner(c: Neither) -> Nor: ...  # type: ignore # noqa: F821

    return [a, list(b)]


def recursive(n: int) -> int:
    return n * recursive(n - 1) if n else 1


def fails(depth: int) -> None:
    def inner():
        raise ValueError("no luck today")

    if depth:
        fails(depth - 1)
    inner()


def version() -> list[int]:
    import sys

    return list(sys.version_info[:2])


@pytest.fixture(scope="module")
def uri(real_server: harness.RealServer) -> str:
    return real_server.uri


@pytest.fixture
def client(uri: str) -> Iterator[PieClient]:
    with PieClient(uri) as client:
        client.authenticate("alice")
        yield client


def new_function() -> Inferlet[..., Any]:
    """A function that no server has: only its name is new."""
    return inferlet(name=f"new-{uuid.uuid4()}")(recursive)


class TestResults:
    def test_a_whole_run(self, client: PieClient):
        result = client.run(complete, {"prompt": "Hä", "max_tokens": 2}, timeout=LIMIT)
        assert result.value == {"text": "Hä", "tokens": [0, 1]}
        assert result.messages == ("Hä 0", "Hä 1")
        assert result.ok
        assert result.input == {"prompt": "Hä", "max_tokens": 2}
        assert 0 < result.elapsed < LIMIT
        assert len(result.id) == 36

    @pytest.mark.parametrize(
        ("function", "kind", "value"),
        [
            (gives, "none", None),
            (gives, "list", [1, [2.5, None, True, "x"]]),
            (gives, "number", 5),
            (gives, "text", 5),  # a string comes without quotes, and is JSON of a number then
            (gives_text, "text", "5"),
            (gives_text, "empty", ""),
            (gives_text_or_none, "text", "5"),
            (gives_text_or_none, "none", None),
        ],
    )
    def test_values(self, client: PieClient, function, kind, value):
        assert client.run(function, {"kind": kind}, timeout=LIMIT).value == value

    def test_what_is_no_json(self, client: PieClient):
        result = client.run(gives, {"kind": "word"}, timeout=LIMIT)
        with pytest.raises(ValueError, match="not JSON: 'ä no JSON'.*annotated -> str"):
            result.value  # noqa: B018
        large = client.run(gives, {"kind": "large"}, timeout=LIMIT)
        assert len(repr(large)) < 300
        with pytest.raises(ValueError, match=r"\(500000 characters\)"):
            large.value  # noqa: B018

    def test_a_failure_shows_the_functions_own_lines(self, client: PieClient):
        with pytest.raises(InstanceFailed) as caught:
            client.run(fails, {"depth": 1}, timeout=LIMIT)
        text = str(caught.value)
        assert "ValueError: no luck today (" in text
        for line in (
            "in fails: fails(depth - 1)",
            "in fails: inner()",
            'in inner: raise ValueError("no luck today")',
        ):
            assert line in text
        assert "app.py" not in text
        assert caught.value.input == {"depth": 1}
        assert len(repr(caught.value)) < 300

    def test_many(self, client: PieClient):
        inputs = [{"prompt": str(number), "max_tokens": 1} for number in range(50)]
        results = client.map(complete, inputs, concurrency=8, ordered=False)
        assert {result.input["prompt"]: result.value["text"] for result in results} == {
            given["prompt"]: given["prompt"] for given in inputs
        }

    def test_in_a_batch(self, uri: str):
        executor = partial(ThreadPoolExecutor, 2)
        inputs = [{"n": number} for number in range(6)]
        results = run_batch(uri, recursive, inputs, executor, username="alice", shard_size=2)
        assert [result.value for result in results] == [1, 1, 2, 6, 24, 120]

    def test_events(self, client: PieClient):
        events = list(client.launch(complete, {"prompt": "a", "max_tokens": 1}))
        assert events == [(Event.Message, "a 0"), (Event.Completed, '{"text": "a", "tokens": [0]}')]


class TestWhatRuns:
    def test_names_in_annotations_are_not_needed(self, client: PieClient):
        assert client.run(annotated_with_what_is_not_there, {"a": 1}, timeout=LIMIT).value == [1, []]

    def test_a_nested_function(self, client: PieClient):
        def nested(a: int) -> list:
            text = """two
        lines"""
            return [a, text]

        assert client.run(nested, {"a": 1}, timeout=LIMIT).value == [1, "two\n        lines"]

    def test_recursion(self, client: PieClient):
        assert client.run(recursive, ["--n", "5"], timeout=LIMIT).value == 120

    def test_the_python_there(self, client: PieClient):
        assert client.run(version, timeout=LIMIT).value == list(checks.SERVER_PYTHON)

    def test_the_builtins_there(self, client: PieClient):
        def names() -> list:
            import builtins

            return dir(builtins)

        assert set(client.run(names, timeout=LIMIT).value) - checks.BUILTINS_THERE == {"_IncompleteInputError"}

    def test_a_script(self, client: PieClient, tmp_path):
        path = tmp_path / "script.py"
        path.write_text("import nothing\ndef one(a: str) -> str:\n    return a * 2\ndef two(): pass\n")
        assert client.run(f"{path}:one", {"a": "x"}, timeout=LIMIT).value == "xx"

    def test_one_of_the_official_client(self, client: PieClient, real_server: harness.RealServer, tmp_path):
        # The official client needs packages of its server's environment; its inferlet is handed over as text.
        script = tmp_path / "official.py"
        script.write_text(
            "import json, sys\nfrom pie_client import inferlet\n"
            "@inferlet\ndef beam(prompt: str, beams: int = 2):\n    return [prompt, beams]\n"
            "print(json.dumps([beam.program, beam.source, beam.manifest_toml()]))\n"
        )
        program, source, manifest = real_server.official(script)

        class Official:
            def manifest_toml(self) -> str:
                return manifest

        official = Official()
        official.program, official.source = program, source
        assert client.run(official, {"prompt": "x"}, timeout=LIMIT).value == ["x", 2]
        assert client.program_exists(official)
        with pytest.raises(TypeError, match="has no parameter 'beam'"):
            client.run(official, {"prompt": "x", "beam": 3})


class TestUploads:
    def test_once_and_then_nothing_is_asked(self, uri: str, client: PieClient):
        function, counts = new_function(), []
        for _ in range(3):
            before = client.stats().messages_sent
            assert client.run(function, {"n": 3}, timeout=LIMIT).value == 6
            counts.append(client.stats().messages_sent - before)
        assert counts == [3, 1, 1]  # a question, the upload and the launch; then the launch alone
        with PieClient(uri) as other:
            other.authenticate("bob")
            before = other.stats().messages_sent
            assert other.run(function, {"n": 3}, timeout=LIMIT).value == 6
            assert other.stats().messages_sent - before == 2  # a question and the launch

    def test_two_threads_upload_once(self, client: PieClient, caplog):
        function = new_function()
        with caplog.at_level(logging.INFO, "pie_sync"), ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda n: client.run(function, {"n": n}, timeout=LIMIT).value, range(8)))
        assert results[-1] == 5040
        assert sum("uploading the function" in message for message in caplog.messages) == 1

    def test_a_version_of_ones_own(self, client: PieClient, uri: str):
        name = f"new-{uuid.uuid4()}"
        first, second = (inferlet(name=name, version="1.0.0")(function) for function in (recursive, version))
        assert not client.program_exists(first)
        assert client.run(first, {"n": 3}, timeout=LIMIT).value == 6
        assert client.program_exists(first)
        assert client.program_exists(f"{name}@1.0.0")
        assert client.launch_instance_from_registry(f"{name}@1.0.0", {"n": 4}).wait(LIMIT).message == "24"
        with pytest.raises(UploadError, match="another version"):
            client.run(second)
        with PieClient(uri) as other:
            other.authenticate("bob")
            before = other.stats().messages_sent
            assert other.run(first, {"n": 3}, timeout=LIMIT).value == 6
            assert other.stats().messages_sent - before == 2

    def test_program_exists(self, client: PieClient):
        function = new_function()
        assert not client.program_exists(function)
        assert not client.program_exists(function.program)
        client.run(function, {"n": 1}, timeout=LIMIT)
        assert client.program_exists(function)
        assert client.program_exists(function.program)

    def test_a_bare_name_means_a_released_version(self, client: PieClient):
        name = f"new-{uuid.uuid4()}"
        client.run(inferlet(name=name)(recursive), {"n": 1}, timeout=LIMIT)
        client.run(inferlet(name=name, version="1.0.0")(version), timeout=LIMIT)
        assert client.launch_instance_from_registry(name).wait(LIMIT).message == "[3, 14]"


def test_the_command(uri: str, tmp_path):
    import json
    import subprocess

    script = tmp_path / "script.py"
    script.write_text("def complete(prompt: str, n: int = 1) -> str:\n    return prompt * n\n")
    inputs, output = tmp_path / "inputs.jsonl", tmp_path / "out.jsonl"
    inputs.write_text('{"prompt": "a"}\n["--prompt", "5", "--n", "2"]\n')
    command = [sys.executable, "-m", "pie_sync.cli", "--uri", uri, "--timeout", "60"]

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)

    done = run("run", f"{script}:complete", "--", "--prompt", "7", "--n", "3")
    assert (done.returncode, done.stdout) == (0, "777\n"), done.stderr
    done = run("map", f"{script}:complete", str(inputs), "-o", str(output))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["message"] for line in output.read_text().splitlines()] == ["a", "55"]
    done = run("run", f"{script}:complete", "--", "--promt", "7")
    assert done.returncode == 1
    assert "has no parameter 'promt'" in done.stderr
