"""The examples that need the real server."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from . import harness

PRINTED = """\
connected: the process protocol
Stdout: 'Hello, world!'
Stdout: '\\n'
Stdout: 'Hello, world!'
Stdout: '\\n'
Message: 'And who are you?'
Completed: '{"greeted": ["world", "pie-sync"]}'
"""


#: Seconds for what takes half a minute of a processor that nobody else uses.
GENERATION_LIMIT = 500


def run(name: str, uri: str, *arguments: str, timeout: float = 100) -> str:
    """Run an example, and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", harness.REPOSITORY / "examples" / name, *arguments],
        env={**os.environ, "PIE_URI": uri},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_it_runs_again_and_again(real_server: harness.RealServer) -> None:
    for _ in range(2):
        assert run("real_server.py", real_server.uri) == PRINTED


@pytest.mark.timeout(3 * GENERATION_LIMIT)
def test_a_function_generates_what_the_engine_itself_does(real_server: harness.RealServer) -> None:
    prompt = "A small test"
    text, line = run("generate_text.py", real_server.uri, prompt, timeout=GENERATION_LIMIT).splitlines()
    generated = text[len(prompt) :].split()
    answer = real_server.complete(prompt, 8)
    # Each id of the tiny model is another word, so the same words are the same tokens.
    assert (text[: len(prompt)], generated) == (prompt, answer["choices"][0]["text"].split())
    count, _, tokens = line.partition(" tokens: ")
    assert int(count) == len(ast.literal_eval(tokens)) == answer["usage"]["completion_tokens"] == 8


@pytest.mark.timeout(2 * GENERATION_LIMIT)
def test_a_batch_of_prompts(real_server: harness.RealServer) -> None:
    lines = run("batch_of_prompts.py", real_server.uri, timeout=GENERATION_LIMIT).splitlines()
    words = dict(line.split("...") for line in lines)
    assert len(lines) == len(words) == 20
    assert {prompt.split()[1] for prompt in words} == {"ant", "bat", "cat", "dog", "eel"}
    for prompt in ("The ant eats", "The eel knows"):
        assert words[prompt].split() == real_server.complete(prompt, 1)["choices"][0]["text"].split()
