"""Boots the real Pie server, on any machine with a software Vulkan driver.

The server has a process of its own (``serve.py``) and an environment of its own: it shares only the connection
with the client under test. The environment and the checkpoint are made once, and kept in the repository's
``.cache``.

Environment variables:
    PIE_SYNC_REQUIRE_REAL_SERVER: ``1`` turns "the real server can't run here" from a skip into a failure.
    PIE_SYNC_VENV_CACHE: the folder that holds virtual environments, instead of ``.cache/venvs``.
"""

from __future__ import annotations

import ctypes.util
import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
INSTALL = "run scripts/install-real-server as root (Debian packages libvulkan1 and mesa-vulkan-drivers)"

# The environment also has the official client, which shows independently what the server sends.
REQUIREMENTS = ["pie-server==0.5.2", "pie-client==0.5.3", "pie-language-python==0.5.2", "numpy", "tokenizers"]

VENV_LIMIT = 900.0  # seconds, to download and install
CHECKPOINT_LIMIT = 120.0
BOOT_LIMIT = 120.0
SHUTDOWN_LIMIT = 15.0
LOG_TAIL = 8_000  # characters of a process's output that go into an error


class UnavailableError(Exception):
    """The real server can't run here; the text says what to install."""


def required() -> bool:
    """Returns whether a missing real server is a failure."""
    return os.environ.get("PIE_SYNC_REQUIRE_REAL_SERVER") == "1"


def vulkan_driver() -> Path:
    """Finds the driver description of llvmpipe.

    Raises:
        UnavailableError: it is not installed, or the Vulkan loader is not.
    """
    if ctypes.util.find_library("vulkan") is None:
        raise UnavailableError(f"the Vulkan loader is not installed: {INSTALL}")
    data = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    for folder in ["/etc", *data.split(":")]:
        for driver in sorted(Path(folder, "vulkan/icd.d").glob("lvp_icd*.json")):
            return driver
    raise UnavailableError(f"the software Vulkan driver (llvmpipe) is not installed: {INSTALL}")


def environment() -> Path:
    """Makes the server's virtual environment, or finds the one made before.

    Blocks while another test run makes it, or for up to ``VENV_LIMIT``.

    Returns:
        its interpreter.

    Raises:
        UnavailableError: it can't be made.
    """
    if sys.version_info < (3, 10):
        raise UnavailableError("pie-server needs Python 3.10 or newer: run the tests with that")
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


def checkpoint(python: Path) -> Path:
    """Makes the model that the server loads, or finds the one made before by the same program.

    Raises:
        UnavailableError: it can't be made.
    """
    program = HERE / "checkpoint.py"
    version = hashlib.sha256(program.read_bytes()).hexdigest()[:16]
    folder = REPOSITORY / ".cache/checkpoints" / f"qwen35-tiny-{version}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
        try:
            run_tool([python, "-I", program, partial], CHECKPOINT_LIMIT)
            os.rename(partial, folder)
        except OSError:
            # Another test run may have been first; its checkpoint is the same.
            if not folder.exists():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def run_tool(command: list[Any], limit: float) -> None:
    """Runs one step of the preparation.

    Raises:
        UnavailableError: it failed, or took too long; the text has the end of its output.
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
        raise UnavailableError(f"{error}\n{text[-LOG_TAIL:]}") from error


class RealServer:
    """A running pie-server 0.5.2 without programs. It ends with its with-statement, or with this process.

    Attributes:
        uri: where clients connect, without a path.
        http_uri: where its OpenAI-compatible routes are.
        python: the interpreter of its environment, which also has the official client 0.5.3.
    """

    def __init__(self) -> None:
        driver = vulkan_driver()
        self.python = environment()
        model = checkpoint(self.python)
        self._home = Path(tempfile.mkdtemp(prefix="pie-sync-real-server-"))
        self._log = self._home / "output"
        settings = dict(
            os.environ,
            PIE_HOME=str(self._home / "home"),  # where it keeps programs: must not be the user's
            HF_HUB_OFFLINE="1",
            # The software driver even where a GPU is present; the second name is that of older loaders.
            VK_DRIVER_FILES=str(driver),
            VK_ICD_FILENAMES=str(driver),
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self.python, "-I", HERE / "serve.py", model],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=settings,
                start_new_session=True,  # a Ctrl-C is for the tests
            )
        try:
            where = json.loads(self._first_line())
        except BaseException:
            self.close()
            raise
        self.uri: str = where["uri"]
        self.http_uri: str = where["http_uri"]

    def _first_line(self) -> bytes:
        """Waits until the server answers.

        Raises:
            UnavailableError: it ended instead, or takes too long; the text has what it printed.
        """
        stdout = self._process.stdout
        assert stdout is not None
        started = time.monotonic()
        ready, _, _ = select.select([stdout], [], [], BOOT_LIMIT)
        # The line is shorter than a pipe's atomic write: once there is something, there is all of it.
        line = stdout.readline() if ready else b""
        if not line:
            waited = time.monotonic() - started
            raise UnavailableError(
                f"pie-server did not boot ({waited:.0f} s); if it finds no device, {INSTALL}. "
                f"It printed:\n{self.output()}"
            )
        return line

    def output(self) -> str:
        """The end of what the server printed so far."""
        return self._log.read_text(errors="replace")[-LOG_TAIL:]

    def programs(self) -> set[str]:
        """The names of all programs that are installed, with their versions."""
        return {f"{path.parent.name}@{path.stem}" for path in (self._home / "home/inferlets").glob("*/*.toml")}

    @property
    def pid(self) -> int:
        """Of the server's process."""
        return self._process.pid

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

    def close(self) -> None:
        """Ends the server; blocks until it has ended, for ``SHUTDOWN_LIMIT`` at most before it is killed."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(SHUTDOWN_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> RealServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
