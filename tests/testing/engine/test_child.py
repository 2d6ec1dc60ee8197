"""The child process ends with its parent, however that ends."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pie_sync.testing._engine import child

LIMIT = 60.0  # seconds, for what takes less than two

# Starts a server of the environment that it is told, prints where it is, and ends in its own way.
PARENT = """
import os, signal, sys
from pie_sync.testing import EngineServer
server = EngineServer(engine="cuda", port=7, python=sys.argv[1], cache_folder=sys.argv[2])
server.start()
if sys.argv[3] == "forks":
    copy = os.fork()
    if not copy:
        server.close()  # does nothing
        signal.pause()  # and keeps the pipe's end
    print(copy, end=" ")
print(server.pid, server.home, flush=True)
if sys.argv[3] == "returns":
    sys.exit()
os.kill(os.getpid(), signal.SIGKILL)
"""


def wait_for_end(pid: int) -> None:
    """Wait for the end of a process that isn't ours."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([process], [], [], LIMIT)
        assert ended
    finally:
        os.close(process)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open, of Linux")
@pytest.mark.parametrize("way", ["returns", "is killed", "forks"])
def test_it_ends_with_its_parent(python: Path, tmp_path: Path, way: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PARENT, str(python), str(tmp_path), way]
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert parent.stdout is not None
    line = parent.stdout.readline().split()
    parent.stdout.close()
    assert parent.wait(LIMIT) == (0 if way == "returns" else -signal.SIGKILL)
    pid, home = int(line[-2]), Path(line[-1])
    try:
        wait_for_end(pid)
    finally:
        if way == "forks":
            os.kill(int(line[0]), signal.SIGKILL)
    deadline = time.monotonic() + LIMIT
    while home.exists():  # removed just before its end, but by a process that is not ours to wait for
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run(settings: dict[str, Any], *, python: Path, stdin: int | None = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Run the program by itself."""
    return subprocess.Popen(
        [python, child.__file__, json.dumps(settings)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PIE_HOME": settings["home"]},
    )


def test_it_ends_when_it_is_told_to(python: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    settings = {"home": str(tmp_path / "home"), "server": {"host": "h", "port": 7}, "model": {}, "engine": {}}
    process = run(settings, python=python)
    assert process.stdin is not None
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == {"uri": "ws://h:7", "http_uri": "http://here:7"}
    copy = os.dup(process.stdin.fileno())  # the pipe does not close
    try:
        process.stdin.write(b"\n")
        rest, _ = process.communicate(timeout=LIMIT)
    finally:
        os.close(copy)
    assert (rest, process.returncode) == (b"", 0)
    assert not (tmp_path / "home").exists()


def test_a_server_that_hangs_at_its_boot_is_ended_too(python: Path, tmp_path: Path) -> None:
    (tmp_path / "packages/pie/server.py").write_text("import time\ntime.sleep(600)")
    (tmp_path / "home").mkdir()
    settings = {"home": str(tmp_path / "home"), "server": {}, "model": {}, "engine": {}}
    process = run(settings, python=python, stdin=subprocess.DEVNULL)
    stdout, _ = process.communicate(timeout=LIMIT)  # after SHUTDOWN_LIMIT
    assert (stdout, process.returncode) == (b"", 1)
    assert not (tmp_path / "home").exists()
