from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from . import harness

ROUND_TRIP = """
import asyncio, json, sys
from pie_client import PieClient
from pie_client.inferlet import inferlet

@inferlet
async def greeter(name: str):
    from inferlet import session
    session.send("ready")
    return {"text": "hello " + name + ", " + await session.receive()}

async def main():
    async with PieClient(sys.argv[1]) as client:
        await client.authenticate("alice")
        process = await client.run(greeter, name=sys.argv[2])
        event, text = await process.recv()
        await process.signal("bye")
        print(json.dumps([event.value, text, await process.result()]))

asyncio.run(main())
"""

# Boots a server, and is then killed without a chance to clean up.
KILLED_PARENT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from real_server import harness
server = harness.RealServer()
print(server.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def write(folder: Path, source: str) -> Path:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(source))
    return script


def test_the_server_runs_an_inferlet_for_the_official_client(
    real_server: harness.RealServer, tmp_path: Path
) -> None:
    answer = real_server.official(write(tmp_path, ROUND_TRIP), "world")
    assert answer == ["message", "ready", {"text": "hello world, bye"}]


def test_a_failing_script_tells_its_own_traceback(real_server: harness.RealServer, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        real_server.official(write(tmp_path, "1 / 0"))


def test_a_script_past_its_time_limit_is_ended(real_server: harness.RealServer, tmp_path: Path) -> None:
    script = write(tmp_path, "print('so far', flush=True); import time; time.sleep(600)")
    with pytest.raises(AssertionError, match="so far"):
        real_server.official(script, timeout=2.0)


def test_the_server_ends_with_whoever_booted_it(real_server: harness.RealServer, tmp_path: Path) -> None:
    parent = subprocess.run(
        [sys.executable, write(tmp_path, KILLED_PARENT), harness.HERE.parent],
        stdout=subprocess.PIPE,
        env=dict(
            os.environ, TMPDIR=str(tmp_path)
        ),  # what a killed process leaves behind goes with the test's files
        timeout=100,
        check=False,
    )
    assert parent.returncode == -signal.SIGKILL
    try:
        server = os.pidfd_open(int(parent.stdout))
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([server], [], [], 30)
        assert ended
    finally:
        os.close(server)


def test_without_a_driver_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(harness.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(harness.UnavailableError, match="scripts/install-real-server"):
        harness.RealServer()


def test_a_server_that_does_not_boot_shows_what_it_printed(
    real_server: harness.RealServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(harness, "checkpoint", lambda python: tmp_path)
    with pytest.raises(harness.UnavailableError, match="Traceback"):
        harness.RealServer()


def test_an_environment_that_was_not_finished_is_made_again_and_then_kept(
    real_server: harness.RealServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leftover = tmp_path / "pie-server-0.5.2" / "bin" / "python"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    monkeypatch.setenv("PIE_SYNC_VENV_CACHE", str(tmp_path))
    monkeypatch.setattr(harness, "REQUIREMENTS", ["pip"])  # which every environment has already

    python = harness.environment()
    subprocess.run([python, "-c", "pass"], check=True)

    monkeypatch.setattr(harness, "VENV_LIMIT", 0.0)  # making it once more would fail
    assert harness.environment() == python
