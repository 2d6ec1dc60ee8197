from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pie_sync.testing._engine import cache, checkpoint

MAKE = """
import sys
from pathlib import Path
from pie_sync.testing._engine.cache import tiny_checkpoint
sys.stdin.read(1)
print(tiny_checkpoint(Path(sys.argv[1])))
"""


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    return tmp_path


class TestPath:
    @pytest.mark.parametrize(
        ("system", "folder"),
        [
            ("Linux", ".cache/pie-sync"),
            ("Darwin", "Library/Caches/pie-sync"),
            ("Windows", "AppData/Local/pie-sync/Cache"),
        ],
    )
    def test_each_system_has_a_place(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, system: str, folder: str
    ) -> None:
        monkeypatch.setattr(platform, "system", lambda: system)
        assert cache.cache_path() == home / folder

    def test_variables_of_the_system_lead_elsewhere(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(home / "elsewhere"))
        monkeypatch.setenv("LOCALAPPDATA", str(home / "local"))
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        assert cache.cache_path() == home / "elsewhere/pie-sync"
        monkeypatch.setattr(platform, "system", lambda: "Windows")
        assert cache.cache_path() == home / "local/pie-sync/Cache"

    def test_a_relative_variable_is_ignored(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        assert cache.cache_path() == home / ".cache/pie-sync"

    def test_a_given_folder_counts(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(home)
        assert cache.cache_path("here") == home / "here"
        assert cache.cache_path(Path("~/there")) == home / "there"


class TestCheckpoint:
    def test_two_processes_at_once(self, tmp_path: Path) -> None:
        folder = tmp_path / "new/cache"
        both = [
            subprocess.Popen(
                [sys.executable, "-c", MAKE, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        made = [process.communicate("x", timeout=100)[0].strip() for process in both]
        assert made[0] == made[1]
        assert len(list(Path(made[0]).iterdir())) == 5
        assert os.listdir(folder / "checkpoints") == [Path(made[0]).name]

    def test_the_second_time_nothing_is_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[Path] = []
        monkeypatch.setattr(checkpoint, "write_checkpoint", made.append)
        assert cache.tiny_checkpoint(tmp_path) == cache.tiny_checkpoint(tmp_path)
        assert len(made) == 1

    def test_who_is_second_takes_the_firsts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def be_second(partial: Path) -> None:
            (tmp_path / f"checkpoints/qwen35-tiny-{checkpoint.VERSION}/first").mkdir(parents=True)

        monkeypatch.setattr(checkpoint, "write_checkpoint", be_second)
        assert (cache.tiny_checkpoint(tmp_path) / "first").is_dir()
        assert len(os.listdir(tmp_path / "checkpoints")) == 1

    def test_a_full_disk_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def be_full(partial: Path) -> None:
            (partial / "model.safetensors").touch()
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(checkpoint, "write_checkpoint", be_full)
        with pytest.raises(OSError, match="No space left"):
            cache.tiny_checkpoint(tmp_path)
        assert os.listdir(tmp_path / "checkpoints") == []

    def test_what_a_killed_process_left_is_removed_after_an_hour(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(checkpoint, "write_checkpoint", lambda partial: None)
        old, new = tmp_path / "checkpoints/.partial-old", tmp_path / "checkpoints/.partial-new"
        for folder in (old, new):
            folder.mkdir(parents=True)
        os.utime(old, (0, 0))
        cache.tiny_checkpoint(tmp_path)
        assert (old.exists(), new.exists()) == (False, True)


class TestLog:
    def test_the_newest_are_kept(self, tmp_path: Path) -> None:
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs/engine-20000101-000000-old.log").touch()
        logs = [cache.new_log(tmp_path) for _ in range(cache.KEPT_LOGS)]
        assert set((tmp_path / "logs").iterdir()) == set(logs)
        cache.new_log(tmp_path)
        assert len(list((tmp_path / "logs").iterdir())) == cache.KEPT_LOGS
