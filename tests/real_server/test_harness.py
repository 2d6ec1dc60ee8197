from __future__ import annotations

import subprocess
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


def write(folder: Path, source: str) -> Path:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(source))
    return script


def test_the_server_runs_an_inferlet_for_the_official_client(
    real_server: harness.RealServer, tmp_path: Path
) -> None:
    answer = real_server.official(write(tmp_path, ROUND_TRIP), "world", timeout=100.0)
    assert answer == ["message", "ready", {"text": "hello world, bye"}]


def test_a_failing_script_tells_its_own_traceback(real_server: harness.RealServer, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        real_server.official(write(tmp_path, "1 / 0"))


def test_a_script_past_its_time_limit_is_ended(real_server: harness.RealServer, tmp_path: Path) -> None:
    script = write(tmp_path, "print('so far', flush=True); import time; time.sleep(600)")
    with pytest.raises(AssertionError, match="so far"):
        real_server.official(script, timeout=2.0)


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
