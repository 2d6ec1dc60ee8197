"""The real Pie server for the tests: an EngineServer whose packages are in an environment of their own.

So the server shares only the connection with the client under test, and the environment also has the official
client 0.5.3. The environment and the server's cache folder are made once, and kept in the repository's ``.cache``.

Environment variables:
    PIE_SYNC_REQUIRE_REAL_SERVER: ``1`` turns "the real server can't run here" from a skip into a failure.
    PIE_SYNC_VENV_CACHE: the folder that holds virtual environments, instead of ``.cache/venvs``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pie_sync.testing import EngineServer, EngineUnavailableError

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent

#: The extra ``engine`` in fixed versions, the official client, and what pie-sync and its pytest plugin need: some
#: tests run both in this environment, as users do.
REQUIREMENTS = [
    "pie-server==0.5.2",
    "pie-language-python==0.5.2",
    "pie-client==0.5.3",
    "paramiko",
    "pytest",
    "websocket-client",
]

VENV_LIMIT = 900.0  # seconds, to download and install
BOOT_LIMIT = 120.0
COMPLETION_LIMIT = 300.0  # the first one takes half a minute, of a processor that nobody else uses
LOG_TAIL = 8_000  # characters of a process's output that go into an error


def required() -> bool:
    """Returns whether a missing real server is a failure."""
    return os.environ.get("PIE_SYNC_REQUIRE_REAL_SERVER") == "1"


def cache_folder() -> Path:
    """Returns the folder where all servers of the tests keep the model and what they compile."""
    return REPOSITORY / ".cache/engine"


def environment() -> Path:
    """Makes the server's virtual environment, or finds the one made before.

    Blocks while another test run makes it, or for up to ``VENV_LIMIT``.

    Returns:
        its interpreter.

    Raises:
        EngineUnavailableError: it can't be made.
    """
    if sys.version_info < (3, 10):
        raise EngineUnavailableError("pie-server needs Python 3.10 or newer", "run the tests with that")
    cache = Path(os.environ.get("PIE_SYNC_VENV_CACHE") or REPOSITORY / ".cache/venvs")
    folder = cache / "pie-server-0.5.2"
    python, marker = folder / "bin/python", folder / "complete"
    content = "\n".join([sys.version, *REQUIREMENTS])
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "pie-server-0.5.2.lock"):
        # The marker is written last: without it an earlier run was interrupted.
        if not (python.exists() and marker.exists() and marker.read_text() == content):
            shutil.rmtree(folder, ignore_errors=True)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            run_tool([sys.executable, "-m", "venv", folder], VENV_LIMIT)
            run_tool([*install, *REQUIREMENTS], VENV_LIMIT)
            marker.write_text(content)
    return python


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Excludes other processes; the lock ends with its holder's process."""
    import fcntl  # here, so that this module can be imported on systems without fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_tool(command: list[Any], limit: float) -> None:
    """Runs one step of the preparation.

    Raises:
        EngineUnavailableError: it failed, or took too long; the text has the end of its output.
    """
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
            text=True,
            timeout=limit,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        output = error.output or ""
        text = output.decode(errors="replace") if isinstance(output, bytes) else output
        raise EngineUnavailableError(f"{error}\n{text[-LOG_TAIL:]}", "is there a network?") from error


class RealServer(EngineServer):
    """A pie-server 0.5.2 with the tiny model and without programs.

    Attributes:
        python: the interpreter of its environment, which also has the official client 0.5.3.
    """

    def __init__(self) -> None:
        self.python = environment()
        super().__init__(python=self.python, cache_folder=cache_folder(), timeout=BOOT_LIMIT)

    def output(self) -> str:
        """The end of what the server printed so far."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:]

    def programs(self) -> set[str]:
        """The names of all programs that are installed, with their versions."""
        return {f"{path.parent.name}@{path.stem}" for path in (self.home / "inferlets").glob("*/*.toml")}

    def complete(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        """What the server's own OpenAI route answers with the most probable tokens."""
        body = {"model": "default", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
        request = urllib.request.Request(
            f"{self.http_uri}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=COMPLETION_LIMIT) as answer:
            content: dict[str, Any] = json.load(answer)
        return content

    def official(self, script: Path, *arguments: str, timeout: float = 60.0) -> Any:
        """Runs a program in the server's environment, where the official client is; blocks until it ends.

        Args:
            script: a Python file. Its arguments are the server's URI and ``arguments``; the last line that it
                prints must be JSON.
            arguments: further arguments.
            timeout: seconds after which it is killed.

        Returns:
            what its last line says.

        Raises:
            AssertionError: it failed or took too long; the text has its output, and the server's.
        """
        command: list[Any] = [self.python, "-I", script, self.uri, *arguments]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            printed = (error.stdout or b"") + (error.stderr or b"")
            raise AssertionError(
                f"{script.name} took longer than {timeout} s\n"
                f"{printed.decode(errors='replace')[-LOG_TAIL:]}\nserver: {self.output()}"
            ) from error
        lines = done.stdout.decode(errors="replace").splitlines()
        if done.returncode != 0 or not lines:
            raise AssertionError(
                f"{script.name} ended with {done.returncode}\n"
                f"{done.stderr.decode(errors='replace')[-LOG_TAIL:]}\nserver: {self.output()}"
            )
        return json.loads(lines[-1])
