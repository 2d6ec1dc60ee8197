"""EngineServer with a fake of pie-server; tests/real_server has the real one."""

from __future__ import annotations

import platform
import threading
from pathlib import Path
from typing import Any

import pytest

from pie_sync.testing import EngineError, EngineServer, EngineUnavailableError
from pie_sync.testing._engine import requirements


@pytest.fixture
def make(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a server of the fake, with an engine that needs no driver."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PIE_HOME", raising=False)

    def make(model: Any = None, **options: Any) -> EngineServer:
        return EngineServer(
            model, **{"engine": "cuda", "port": 7, "python": python, "cache_folder": tmp_path / "cache", **options}
        )

    return make


def test_from_start_to_end(make: Any, tmp_path: Path) -> None:
    server = make()
    assert repr(server) == "<EngineServer of the tiny model on cuda, not started>"
    assert not server.running
    with server as entered:
        assert entered is server
        assert server.running
        assert (server.uri, server.http_uri) == ("ws://127.0.0.1:7", "http://here:7")
        assert repr(server) == "<EngineServer of the tiny model on cuda, ws://127.0.0.1:7>"
        assert server.log.parent == tmp_path / "cache/logs"
        pid = server.pid
        server.start()
        assert server.pid == pid
    assert not server.running
    assert not server.home.exists()
    assert "shut down" in server.log.read_text()
    assert repr(server) == "<EngineServer of the tiny model on cuda, closed>"
    server.close()
    with pytest.raises(RuntimeError, match="a closed server can't be started again"):
        server.start()


def test_what_is_known_after_the_start_only(make: Any) -> None:
    server = make()
    for name in ("uri", "http_uri", "log", "pid", "home"):
        with pytest.raises(RuntimeError, match="not started"):
            getattr(server, name)
    server.close()


def test_one_that_did_not_start_has_a_log_and_no_process(make: Any) -> None:
    server = make(port=1)
    with pytest.raises(EngineError, match="did not start: no device"):
        server.start()
    assert "on stderr" in server.log.read_text()
    assert not server.running
    server.close()


def test_two_threads_start_one(make: Any) -> None:
    with make() as server:
        pids: list[int] = []

        def start() -> None:
            server.start()
            pids.append(server.pid)

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pids == [server.pid] * 4


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": float("nan")}, {"engine": "abacus"}, {"memory": "much"}, {"port": -1}]
)
def test_options_that_can_not_be_used(make: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        make(**options)


class TestModel:
    def test_a_name(self, make: Any) -> None:
        with make("Qwen/Qwen3.5-0.8B") as server:
            assert repr(server).startswith("<EngineServer of 'Qwen/Qwen3.5-0.8B' on cuda")

    def test_a_folder(self, make: Any, tmp_path: Path) -> None:
        (tmp_path / "checkpoint").mkdir()
        for model in (tmp_path / "checkpoint", "~/checkpoint"):
            with make(model):
                pass

    def test_a_folder_that_is_not_there(self, make: Any) -> None:
        with pytest.raises(EngineError, match="there is no folder .*/nowhere with a checkpoint"):
            make("~/nowhere").start()

    def test_none_is_made_for_a_model_of_the_users(self, make: Any, tmp_path: Path) -> None:
        with make("a name"):
            assert not (tmp_path / "cache/checkpoints").exists()
        with make():
            assert (tmp_path / "cache/checkpoints").exists()


class TestDriver:
    def test_the_cpu_needs_the_software_driver(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        self.lack(monkeypatch, "libvulkan.so.1")
        with pytest.raises(EngineUnavailableError, match="libvulkan.so.1"):
            make(engine=None).start()

    @pytest.mark.parametrize("options", [{"engine": "vulkan"}, {"engine": "wgpu", "device": "wgpu:1"}])
    def test_a_graphics_card_needs_the_loader(
        self, make: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
    ) -> None:
        self.lack(monkeypatch, "")
        with pytest.raises(EngineUnavailableError, match="Vulkan"):
            make(**options).start()

    def test_cuda_needs_neither(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lack(monkeypatch, "")
        with make():
            pass

    def lack(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        def fail(name: str) -> None:
            raise OSError(name)

        monkeypatch.setattr(requirements.ctypes, "CDLL", fail)
