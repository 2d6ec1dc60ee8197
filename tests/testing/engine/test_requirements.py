from __future__ import annotations

import ctypes
import platform
import shutil
from pathlib import Path
from typing import Any

import pytest

from pie_sync.testing import EngineUnavailableError
from pie_sync.testing._engine import requirements

PYTHON = (3, 12, 1)


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A Vulkan loader; the list has the names by which it was loaded."""
    loaded: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", loaded.append)
    return loaded


class TestVulkan:
    @pytest.mark.parametrize(("system", "name"), [("Linux", "libvulkan.so.1"), ("Windows", "vulkan-1.dll")])
    def test_the_loader(self, loader: list[str], monkeypatch: pytest.MonkeyPatch, system: str, name: str) -> None:
        monkeypatch.setattr(platform, "system", lambda: system)
        requirements.check_vulkan()
        assert loader == [name]

    @pytest.mark.parametrize(
        ("installer", "hint"),
        [
            ("apt-get", "sudo apt-get install libvulkan1 mesa-vulkan-drivers"),
            ("dnf", "sudo dnf install vulkan-loader mesa-vulkan-drivers"),
            ("pacman", "sudo pacman -S vulkan-icd-loader vulkan-swrast"),
            (None, "install the Vulkan loader and Mesa's Vulkan drivers (llvmpipe) with your package manager"),
        ],
    )
    def test_without_a_loader(self, monkeypatch: pytest.MonkeyPatch, installer: str | None, hint: str) -> None:
        def fail(name: str) -> None:
            raise OSError(f"{name}: cannot open shared object file")

        monkeypatch.setattr(ctypes, "CDLL", fail)
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        monkeypatch.setattr(shutil, "which", lambda name: name if name == installer else None)
        with pytest.raises(EngineUnavailableError) as caught:
            requirements.software_driver()
        assert caught.value.reason == "the engine needs Vulkan, and libvulkan.so.1 is not installed"
        assert caught.value.hint == hint

    def test_without_a_loader_on_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(name: str) -> None:
            raise OSError(name)

        monkeypatch.setattr(ctypes, "CDLL", fail)
        monkeypatch.setattr(platform, "system", lambda: "Windows")
        with pytest.raises(EngineUnavailableError, match="hint: install your graphics card's driver"):
            requirements.check_vulkan()

    @pytest.mark.usefixtures("loader")
    def test_the_software_driver(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_DATA_DIRS", f"{tmp_path}/a:{tmp_path}/b")
        with pytest.raises(EngineUnavailableError, match="llvmpipe.*not installed"):
            requirements.software_driver()
        driver = tmp_path / "b/vulkan/icd.d/lvp_icd.x86_64.json"
        driver.parent.mkdir(parents=True)
        (driver.parent / "radeon_icd.x86_64.json").touch()
        driver.touch()
        assert requirements.software_driver() == driver


class TestPackages:
    @pytest.fixture(autouse=True)
    def linux(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        self.has_libc(monkeypatch, "glibc", "2.36")

    def has_libc(self, monkeypatch: pytest.MonkeyPatch, *libc: str) -> None:
        def libc_ver(*arguments: Any) -> tuple[str, ...]:
            return libc

        monkeypatch.setattr(platform, "libc_ver", libc_ver)

    def test_a_package_is_not_installed(self) -> None:
        error = requirements.unavailable("pie-server", PYTHON)
        assert str(error) == (
            "the engine needs pie-server, which is not installed\nhint: pip install 'pie-sync[engine]'"
        )

    def test_an_old_python(self) -> None:
        error = requirements.unavailable("pie-server", (3, 9, 18))
        assert "Python 3.10 or newer, and this is 3.9" in error.reason

    @pytest.mark.parametrize(
        ("libc", "said"), [(("glibc", "2.31"), "has glibc 2.31"), (("", ""), "has another libc")]
    )
    def test_a_libc_without_wheels(
        self, monkeypatch: pytest.MonkeyPatch, libc: tuple[str, str], said: str
    ) -> None:
        self.has_libc(monkeypatch, *libc)
        error = requirements.unavailable("pie-server", PYTHON)
        assert "need glibc 2.35 or newer" in error.reason
        assert error.reason.endswith(said)
        assert "pip install" not in error.hint

    def test_other_systems_have_no_glibc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Darwin")
        self.has_libc(monkeypatch, "", "")
        assert requirements.unavailable("pie-server", PYTHON).hint == "pip install 'pie-sync[engine]'"
