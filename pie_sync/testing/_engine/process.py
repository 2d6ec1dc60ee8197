"""The child process in which the engine runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .errors import EngineError
from .requirements import unavailable

__all__ = ["Addresses", "EngineProcess"]

_CHILD = Path(__file__).with_name("child.py")

#: How many seconds the process may take to end before it is killed: more than it gives itself.
SHUTDOWN_LIMIT = 15.0

#: How many of the log's last characters, and of their lines, go into an error.
_LOG_TAIL = 8_000
_LOG_LINES = 20


class Addresses(NamedTuple):
    """Where the server is."""

    uri: str
    http_uri: str


class EngineProcess:
    """One run of ``child.py``. Its process ends with :meth:`end`, or with this process, however that ends.

    Args:
        python: the interpreter to run, of an environment with pie-server.
        settings: what ``configuration.configuration`` returned.
        environment: variables for the process, in addition to this process's own.
        log: where its output goes; the file must exist.
        cache: where the engine keeps what it compiles for later runs.
        models: the folder of the models that have names.

    Attributes:
        pid: the process's id.
        home: the folder in which the server keeps installed programs. It goes with the process.
    """

    def __init__(
        self,
        python: str,
        settings: Mapping[str, Any],
        environment: Mapping[str, str],
        *,
        log: Path,
        cache: Path,
        models: Path,
    ) -> None:
        self._log = log
        self._models = models
        self.home = _new_home(cache, models)
        variables = {
            "XDG_RUNTIME_DIR": str(self.home),  # without it, the driver prints a warning
            "HF_HUB_OFFLINE": "1",
            **os.environ,
            **environment,
            "PIE_HOME": str(self.home),
        }
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(  # noqa: S603 - the caller's interpreter, our program
                    [python, _CHILD, json.dumps({**settings, "home": str(self.home)})],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    env=variables,
                    **_detached(),
                )
        except OSError as error:
            shutil.rmtree(self.home, ignore_errors=True)
            raise EngineError(f"can't run {python}: {error.strerror}") from error
        self.pid = self._process.pid
        self._line = b""

    def wait_until_ready(self, limit: float) -> Addresses:
        """Block until the server answers.

        Args:
            limit: how many seconds that may take.

        Raises:
            EngineUnavailableError: a package is missing.
            EngineError: it did not start, or takes too long. The text has the last lines of the log.
        """
        started = time.monotonic()
        # A pipe can't be waited for with a time limit on every system. The thread ends with the process.
        reader = threading.Thread(target=self._read_line, name="pie-sync engine", daemon=True)
        reader.start()
        reader.join(limit)
        waited = time.monotonic() - started
        if reader.is_alive():
            raise self._error(f"the engine was not ready within {limit:g} s")
        if not self._line:
            status = self._process.wait(SHUTDOWN_LIMIT)
            raise self._error(f"the engine's process ended with status {status} after {waited:.1f} s")
        answer = json.loads(self._line)
        if "missing" in answer:
            raise unavailable(answer["missing"], tuple(answer["python"]))
        if "error" in answer:
            reason = answer["error"].replace(str(self.home / "models"), str(self._models))
            raise self._error(f"the engine did not start: {reason}")
        return Addresses(**answer)

    def is_running(self) -> bool:
        """Return whether the process has not ended."""
        return self._process.poll() is None

    def end(self) -> None:
        """End the process; block until it has ended, for 15 seconds at most before it is killed. Idempotent."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            # A forked copy of this process may have the pipe as well, so its end alone does not tell.
            process.stdin.write(b"\n")
            process.stdin.close()
        except (OSError, ValueError):
            pass  # the process has ended, or end() was here before
        try:
            process.wait(SHUTDOWN_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def _read_line(self) -> None:
        assert self._process.stdout is not None
        self._line = self._process.stdout.readline()

    def _error(self, text: str) -> EngineError:
        tail = self._log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:].splitlines()[-_LOG_LINES:]
        said = "\n".join(tail) or "(it is empty)"
        return EngineError(f"{text}\nthe last lines of {self._log}:\n{said}")


def _new_home(cache: Path, models: Path) -> Path:
    """Make a PIE_HOME: programs of its own, with the compiler's cache of all engines and the user's models.

    To compile Python takes the first program half a minute, and 1.5 seconds if it is in the cache.
    """
    home = Path(tempfile.mkdtemp(prefix="pie-sync-engine-"))
    compiled = cache / "compiled"
    try:
        compiled.mkdir(parents=True, exist_ok=True)
        os.symlink(compiled, home / "cache", target_is_directory=True)
        if models.is_dir():
            os.symlink(models, home / "models", target_is_directory=True)
    except OSError:
        pass  # on Windows not every user may make links: then everything is compiled again
    return home


def _detached() -> dict[str, Any]:
    """Return the options with which a Ctrl-C in the terminal is for this process alone."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    else:  # noqa: RET505 - so that mypy sees that each is for its own system
        return {"start_new_session": True}
