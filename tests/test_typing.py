"""What type checkers see: of the code in the documentation, of results, and of the public API."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import pie_sync
from tests.test_documentation import PAGES, ROOT, blocks, name

needs_mypy = pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
needs_basedpyright = pytest.mark.skipif(
    importlib.util.find_spec("basedpyright") is None, reason="basedpyright is not installed"
)

LIMIT = 100.0  # seconds, for one type checker

RESULTS = """
from pathlib import Path
from typing import Any

from pie_sync import Blob, CompletedInstance, Instance, PieClient, inferlet
from pie_sync.batch import run_batch

@inferlet
async def complete(prompt: str, max_tokens: int = 16) -> dict[str, int]:
    return {prompt: max_tokens}

@inferlet(name="named")
def named(a: int) -> str:
    return str(a)

def plain(a: int) -> list[int]:
    return [a]

async def coroutine(a: int) -> list[int]:
    return [a]

def use(client: PieClient, result: CompletedInstance, instance: Instance) -> None:
    reveal_type(client.run(complete, {"prompt": "x"}).value)  # dict[str, int]
    reveal_type(client.run(named).value)  # str
    reveal_type(client.run(plain).value)  # list[int]
    reveal_type(client.run(coroutine).value)  # list[int]
    reveal_type(client.run("name").value)  # Any
    reveal_type(client.run(Path("x.wasm")).value)  # Any
    reveal_type(client.launch(complete).wait().value)  # dict[str, int]
    reveal_type(next(client.map(complete, [{}])).value)  # dict[str, int]
    reveal_type(next(client.map(named, [], return_exceptions=True)))  # CompletedInstance[str] | PieError
    reveal_type(next(run_batch("ws://host", named, [{}])).value)  # str
    reveal_type(next(run_batch("ws://host", "x", [], return_exceptions=True)))  # CompletedInstance[Any] | PieError
    reveal_type(complete.args("x", max_tokens=5))  # dict[str, Any]
    reveal_type(result.value)  # Any
    reveal_type(result.blobs)  # tuple[Blob, ...]
    for event, data in instance:
        reveal_type(data)  # str | Blob
        if isinstance(data, Blob):
            data.save("folder")

def mistakes(client: PieClient) -> None:
    complete.args("x", max_token=5)  # error
    complete.args(5)  # error
    named(b=5)  # error
    client.run(5)  # error
"""


def mypy(folder: Path, *files: Path) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", folder / "cache", *files]
    command += ["--config-file", ROOT / "pyproject.toml"]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.stderr == ""
    return done.stdout


@needs_mypy
@pytest.mark.timeout(2 * LIMIT)
def test_every_code_block_of_the_documentation(tmp_path):
    paths = []
    for page in PAGES:
        if blocks(page, "python") and page.parent.name != "fuzzing":
            path = tmp_path / (re.sub(r"\W", "_", name(page)) + ".py")
            path.write_text("\n\n".join(blocks(page, "python")))
            paths.append(path)
    assert len(paths) > 10
    ours = [line for line in mypy(tmp_path, *paths).splitlines() if not line.startswith("fuzzing")]
    assert [line for line in ours if ": error:" in line] == []


def revealed(output: str) -> dict[int, str]:
    told = r"(?:Revealed type is|Type of .* is)"
    found = re.findall(rf'^\s*\S*?:(\d+)(?::\d+)?.*?{told} "(.*)"$', output, re.MULTILINE)
    return {int(line): re.sub(r"\b(?:\w+\.)+(?=[A-Z])|\bbuiltins\.", "", text) for line, text in found}


def errors(output: str) -> set[int]:
    return {int(line) for line in re.findall(r"^\s*\S*?:(\d+)(?::\d+)?[: -]+error", output, re.MULTILINE)}


def check(output: str) -> None:
    lines = dict(enumerate(RESULTS.splitlines(), 1))
    expected = {number: line.split("  # ")[1] for number, line in lines.items() if "reveal_type" in line}
    assert revealed(output) == expected
    assert errors(output) == {number for number, line in lines.items() if line.endswith("# error")}


@needs_mypy
@pytest.mark.timeout(2 * LIMIT)
def test_mypy_knows_what_a_function_returns(tmp_path):
    path = tmp_path / "results.py"
    path.write_text(RESULTS)
    check(mypy(tmp_path, path))


@pytest.fixture
def environment(tmp_path):
    """An environment in which pie-sync is installed as from a wheel: basedpyright looks only there for it."""
    folder = tmp_path / "environment"
    venv.create(folder, symlinks=os.name != "nt")
    [packages] = folder.glob("Lib/site-packages" if os.name == "nt" else "lib/python*/site-packages")
    shutil.copytree(Path(pie_sync.__file__).parent, packages / "pie_sync")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    return {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}


def basedpyright(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "basedpyright", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT)
    return done.stdout + done.stderr


@needs_basedpyright
@pytest.mark.timeout(2 * LIMIT)
def test_nothing_of_the_public_api_is_of_unknown_type(tmp_path, environment):
    output = basedpyright(tmp_path, environment, "--ignoreexternal", "--verifytypes", "pie_sync")
    assert "Type completeness score: 100%" in output, output
    counts = re.findall(r"With (?:ambiguous|unknown) type: (\d+)", output)
    assert counts == ["0"] * 4, output


@needs_basedpyright
@pytest.mark.timeout(2 * LIMIT)
def test_pyright_knows_what_a_function_returns(tmp_path, environment):
    path = tmp_path / "results.py"
    path.write_text(RESULTS)
    check(basedpyright(tmp_path, environment, str(path)))
