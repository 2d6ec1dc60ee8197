"""EngineServer and the real engine."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pie_sync import PieClient
from pie_sync.testing import EngineError, EngineServer

from . import harness

LIMIT = 100.0  # seconds, for what takes a few

# Boots a server, and is then killed without a chance to clean up.
KILLED_PARENT = """
import os, signal
from tests.real_server.harness import RealServer
server = RealServer()
server.start()
print(server.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def server(**options: Any) -> EngineServer:
    return EngineServer(python=harness.environment(), cache_folder=harness.cache_folder(), **options)


def test_each_generated_token_is_a_text(real_server: harness.RealServer) -> None:
    answer = real_server.complete("Hello", 4)
    assert answer["usage"]["completion_tokens"] == 4
    words = answer["choices"][0]["text"].split()
    assert len(words) == 4
    assert all(word.isalpha() and word.islower() for word in words)


@pytest.mark.usefixtures("real_server")  # which says, if need be, why there is none
class TestAlone:
    def test_it_ends_with_its_parent(self, tmp_path: Path) -> None:
        parent = subprocess.run(
            [sys.executable, "-c", KILLED_PARENT],
            stdout=subprocess.PIPE,
            cwd=harness.REPOSITORY,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            timeout=LIMIT,
            check=False,
        )
        assert parent.returncode == -signal.SIGKILL
        try:
            process = os.pidfd_open(int(parent.stdout))
        except ProcessLookupError:
            return
        try:
            ended, _, _ = select.select([process], [], [], 30)
            assert ended
        finally:
            os.close(process)

    def test_a_port_and_a_memory_of_ones_own(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with server(port=port, memory="3GiB", options={"max_total_pages": 64}) as engine:
            assert engine.uri == f"ws://127.0.0.1:{port}"
            with PieClient(engine.uri) as client:
                assert client.ping() > 0

    def test_a_folder_with_a_checkpoint(self) -> None:
        """The tiny model's folder, given as one of the user's, with all that it needs said."""
        folder = next((harness.cache_folder() / "checkpoints").glob("qwen35-tiny-*"))
        options = {"max_forward_tokens": 256, "max_forward_requests": 4, "max_total_pages": 64}
        with EngineServer(
            folder,
            engine="wgpu",
            python=harness.environment(),
            cache_folder=harness.cache_folder(),
            options=options,
        ) as engine:
            assert engine.running

    def test_a_model_that_is_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIE_HOME", str(tmp_path))
        (tmp_path / "models").mkdir()
        engine = EngineServer(
            "Qwen/no-such", engine="wgpu", python=harness.environment(), cache_folder=harness.cache_folder()
        )
        with pytest.raises(EngineError, match=f'no model "Qwen/no-such" in {tmp_path}/models; `pie model import'):
            engine.start()

    def test_too_little_memory(self) -> None:
        with pytest.raises(EngineError, match="did not start: .*impossible submission"):
            server(memory="1GiB").start()

    def test_a_port_that_is_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            with pytest.raises(EngineError, match="did not start: .*in use"):
                server(port=taken.getsockname()[1]).start()

    def test_a_folder_that_is_no_checkpoint(self, tmp_path: Path) -> None:
        engine = EngineServer(
            tmp_path, engine="wgpu", python=harness.environment(), cache_folder=harness.cache_folder()
        )
        with pytest.raises(EngineError, match="did not start"):
            engine.start()


def in_its_environment(*command: str, cwd: Path) -> dict[str, Any]:
    """Return the options for a process in the environment that has pie-server, and this pie-sync."""
    return {
        "args": [harness.environment(), *command],
        "cwd": cwd,
        "env": {
            **os.environ,
            "PYTHONPATH": str(harness.REPOSITORY),
            "XDG_CACHE_HOME": str(cwd / "cache"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }


@pytest.mark.usefixtures("real_server")
class TestWhereUsersHaveIt:
    """In an environment with pie-sync and the extra ``engine``, with the default cache folder."""

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path) -> None:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache/pie-sync").symlink_to(harness.cache_folder())

    def test_the_command(self, tmp_path: Path) -> None:
        (tmp_path / "double.py").write_text(
            "from pie_sync import inferlet\n\n@inferlet\ndef double(number: int) -> int:\n    return 2 * number\n"
        )
        command = ("-m", "pie_sync.cli", "serve", "--engine", "--port", "0", "double.py")
        process = subprocess.Popen(**in_its_environment(*command, cwd=tmp_path))
        try:
            assert process.stdout is not None
            uri = process.stdout.readline().strip()
            with PieClient(uri) as client:
                client.authenticate("alice")
                assert client.run("double", {"number": 21}).value == 42
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == 0
        loading, uploading, functions, routes, ended = stderr.splitlines()
        assert loading == "[loading a tiny model with random weights]"
        assert uploading == "[uploading functions; a fresh server takes half a minute for its first one]"
        assert re.fullmatch(r"\[functions: double@0\.\d+\.\d+\]", functions)
        assert routes.startswith("[OpenAI-compatible routes: http://127.0.0.1:")
        assert ended == "[ended]"

    def test_the_fixtures(self, tmp_path: Path) -> None:
        (tmp_path / "test_it.py").write_text(
            "def test_one(pie_engine, pie_engine_client):\n"
            "    assert pie_engine.running\n"
            "    assert pie_engine_client.ping() > 0\n"
            "    test_one.uri = pie_engine.uri\n"
            "def test_two(pie_engine, pie_engine_client):\n"
            "    assert pie_engine.uri == test_one.uri\n"
        )
        # By its module: the repository, which is on the path, has the entry point only if something was built.
        plugin = ("-p", "no:pie_sync", "-p", "pie_sync.testing.pytest_plugin")
        done = subprocess.run(
            **in_its_environment("-m", "pytest", "-q", *plugin, cwd=tmp_path),
            timeout=LIMIT,
            check=False,
        )
        assert "2 passed" in done.stdout, done.stdout + done.stderr
