from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest

from pie_sync.testing._engine.configuration import ENGINES, Machine, choose_engine, configuration, model_path


def settings(**options: Any) -> dict[str, Any]:
    given = {
        "sku": None,
        "host": "127.0.0.1",
        "port": 0,
        "engine": "wgpu",
        "device": None,
        "memory": None,
        "options": {},
    }
    return configuration("a model", **{**given, **options})


@pytest.mark.parametrize(
    ("machine", "tiny", "expected"),
    [
        (Machine("Linux", False, False), True, ("wgpu", True)),
        (Machine("Linux", True, True), True, ("wgpu", True)),
        (Machine("Linux", False, False), False, ("wgpu", True)),
        (Machine("Linux", False, True), False, ("vulkan", False)),
        (Machine("Linux", True, True), False, ("cuda", False)),
        (Machine("Darwin", False, False), True, ("wgpu", False)),
        (Machine("Darwin", False, False), False, ("metal", False)),
        (Machine("Windows", True, True), True, ("vulkan", False)),
        (Machine("Windows", True, True), False, ("cuda", False)),
        (Machine("Windows", False, True), False, ("vulkan", False)),
    ],
)
def test_the_engine_for_a_machine(machine: Machine, tiny: bool, expected: tuple[str, bool]) -> None:
    assert choose_engine(machine, tiny=tiny) == expected


class TestMachine:
    def test_linux(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        assert Machine.here(tmp_path) == Machine("Linux", False, False)
        (tmp_path / "dev/dri").mkdir(parents=True)
        (tmp_path / "dev/dri/renderD128").touch()
        assert Machine.here(tmp_path) == Machine("Linux", False, True)
        (tmp_path / "dev/nvidia0").touch()
        assert Machine.here(tmp_path) == Machine("Linux", True, True)

    def test_windows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Windows")
        monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
        assert Machine.here() == Machine("Windows", False, False)
        (tmp_path / "System32").mkdir()
        (tmp_path / "System32/nvcuda.dll").touch()
        assert Machine.here() == Machine("Windows", True, False)


class TestModel:
    def test_a_name_stays_one_whatever_files_there_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "Qwen/Qwen3.5-0.8B").mkdir(parents=True)
        assert model_path("Qwen/Qwen3.5-0.8B") is None

    def test_paths(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert model_path(Path("folder")) == str(tmp_path / "folder")
        assert model_path("./folder") == str(tmp_path / "folder")
        assert model_path("../folder") == str(tmp_path.parent / "folder")
        assert model_path("~/folder") == str(tmp_path / "home/folder")
        assert model_path("/a/folder") == "/a/folder"


class TestConfiguration:
    def test_the_tiny_model(self) -> None:
        engine = settings(sku="a sku")["engine"]
        assert engine["type"] == "wgpu"
        assert engine["device"] == ["wgpu:0"]
        assert engine["options"] == {
            "device_memory": "4GiB",
            "max_forward_requests": 4,
            "max_forward_tokens": 256,
            "max_total_pages": 512,
        }

    def test_options_take_precedence(self) -> None:
        given = settings(sku="a sku", memory="3GiB", device="wgpu:1", options={"max_total_pages": 64})
        assert given["engine"]["device"] == ["wgpu:1"]
        assert given["engine"]["options"]["device_memory"] == "3GiB"
        assert given["engine"]["options"]["max_total_pages"] == 64

    @pytest.mark.parametrize("engine", sorted(set(ENGINES) - {"wgpu"}))
    def test_other_engines_have_their_own_defaults(self, engine: str) -> None:
        given = settings(engine=engine)["engine"]
        assert given == {"type": ENGINES[engine], "device": [f"{engine}:0"], "options": {}}

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"engine": "abacus"}, "there is no engine 'abacus'; there are cuda, metal, vulkan, wgpu"),
            ({"memory": "4 apples"}, "memory must be a number with its unit, such as '4GiB', not '4 apples'"),
            ({"engine": "cuda", "memory": "4GiB"}, "gpu_mem_utilization"),
            ({"port": 65536}, "port must be from 0 to 65535, not 65536"),
            ({"port": -1}, "port must be from 0 to 65535, not -1"),
        ],
    )
    def test_what_can_not_be_used(self, options: dict[str, Any], complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            settings(**options)
