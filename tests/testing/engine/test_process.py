from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pie_sync.testing import EngineError, EngineUnavailableError
from pie_sync.testing._engine import process as process_module
from pie_sync.testing._engine.process import EngineProcess

LIMIT = 60.0  # seconds, for what takes less than one


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "user/models"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def start(tmp_path: Path, models: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start a process of the fake server, which behaves by its port."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    log = tmp_path / "log"
    log.touch()

    def start(port: int = 0, interpreter: Path = python, **environment: str) -> EngineProcess:
        return EngineProcess(
            str(interpreter),
            {"server": {"host": "localhost", "port": port}, "model": {}, "engine": {}},
            environment,
            log=log,
            cache=tmp_path / "cache",
            models=models,
        )

    return start


def left(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "tmp")


def test_from_start_to_end(start: Any, tmp_path: Path, models: Path) -> None:
    process = start(7)
    assert process.wait_until_ready(LIMIT) == ("ws://localhost:7", "http://here:7")
    assert process.is_running()
    assert os.readlink(process.home / "cache") == str(tmp_path / "cache/compiled")
    assert os.readlink(process.home / "models") == str(models)
    for _ in range(2):
        process.end()
        assert not process.is_running()
    printed = (tmp_path / "log").read_text().splitlines()
    assert sorted(printed) == sorted([f"on stdout: {process.home}", f"on stderr pid: {process.pid}", "shut down"])
    assert left(tmp_path) == []
    assert models.is_dir()


def test_the_reason_and_the_log_are_in_the_error(start: Any, tmp_path: Path, models: Path) -> None:
    process = start(1)
    with pytest.raises(EngineError) as caught:
        process.wait_until_ready(LIMIT)
    process.end()
    first, second, *lines = str(caught.value).splitlines()
    assert first == f"the engine did not start: no device\x1b here: {models}"
    assert second == f"the last lines of {tmp_path}/log:"
    assert f"on stderr pid: {process.pid}" in lines
    assert left(tmp_path) == []


def test_a_mistake_of_python_has_its_traceback_in_the_log(start: Any, tmp_path: Path) -> None:
    process = start(4)
    with pytest.raises(EngineError, match="a mistake"):
        process.wait_until_ready(LIMIT)
    process.end()
    assert 'in __aenter__\n    {}["a mistake"]' in (tmp_path / "log").read_text()


def test_a_process_that_is_killed_is_told_at_once(start: Any, tmp_path: Path) -> None:
    process = start(2)
    with pytest.raises(EngineError, match="ended with status -9 after") as caught:
        process.wait_until_ready(LIMIT)
    process.end()
    assert "on stderr" in str(caught.value)
    assert left(tmp_path) == []


def test_a_server_that_is_not_ready_in_time(start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "SHUTDOWN_LIMIT", 0.1)  # it sleeps, and would get all of the 10 seconds
    process = start(3)
    with pytest.raises(EngineError, match="was not ready within 0.1 s"):
        process.wait_until_ready(0.1)
    process.end()
    assert not process.is_running()
    assert left(tmp_path) == []


def test_a_server_that_does_not_shut_down_is_killed(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "SHUTDOWN_LIMIT", 0.1)
    process = start(5)
    process.wait_until_ready(LIMIT)
    process.end()
    assert not process.is_running()
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("gone", "package"),
    [("pie/server.py", "pie-server"), ("pie_language_python/__init__.py", "pie-language-python")],
)
def test_a_package_that_is_missing(start: Any, tmp_path: Path, gone: str, package: str) -> None:
    path = tmp_path / "packages" / gone
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    process = start()
    with pytest.raises(EngineUnavailableError) as caught:
        process.wait_until_ready(LIMIT)
    process.end()
    assert caught.value.reason.startswith(f"the engine needs {package}, which is not installed")


def test_an_interpreter_that_is_not_there(start: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="can't run .*nowhere: No such file"):
        start(interpreter=tmp_path / "nowhere")
    assert left(tmp_path) == []


def test_a_neighbour_of_the_program_hides_no_module(start: Any, tmp_path: Path) -> None:
    (tmp_path / "packages/pie/server.py").write_text("import cache")
    (tmp_path / "packages/cache.py").write_text("raise RuntimeError('the right one')")
    process = start()
    with pytest.raises(EngineError, match="did not start: the right one"):
        process.wait_until_ready(LIMIT)
    process.end()


def test_no_thread_is_left(start: Any) -> None:
    before = threading.active_count()
    process = start(3)
    with pytest.raises(EngineError):
        process.wait_until_ready(0.01)
    process._process.kill()
    process.end()
    for thread in threading.enumerate():
        if thread.name == "pie-sync engine":
            thread.join(LIMIT)
    assert threading.active_count() == before


def test_where_links_are_not_allowed_everything_is_compiled_again(
    start: Any, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("a privilege is missing")

    monkeypatch.setattr(os, "symlink", refuse)
    process = start(7)
    process.wait_until_ready(LIMIT)
    assert list(process.home.iterdir()) == []
    process.end()


def test_the_environment(start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", "the user's")
    monkeypatch.setenv("PIE_HOME", "the user's")
    (tmp_path / "packages/pie/server.py").write_text(
        "import os; raise RuntimeError(os.environ['VK_DRIVER_FILES'] + ' ' + os.environ['HF_HUB_OFFLINE'])"
    )
    process = start(VK_DRIVER_FILES="ours")
    with pytest.raises(EngineError, match="did not start: ours 1"):
        process.wait_until_ready(LIMIT)
    process.end()
