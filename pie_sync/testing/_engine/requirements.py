"""What the engine needs on this machine, and the command that installs what is missing."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from pathlib import Path

from .errors import EngineUnavailableError

__all__ = ["check_vulkan", "software_driver", "unavailable"]

#: The oldest glibc for which there is a wheel of pie-server.
OLDEST_GLIBC = (2, 35)

_OLDEST_PYTHON = (3, 10)

#: By the program that installs packages: the command that installs the Vulkan loader and Mesa's software driver.
_INSTALL_VULKAN = {
    "apt-get": "sudo apt-get install libvulkan1 mesa-vulkan-drivers",
    "dnf": "sudo dnf install vulkan-loader mesa-vulkan-drivers",
    "zypper": "sudo zypper install libvulkan1 libvulkan_lvp",
    "pacman": "sudo pacman -S vulkan-icd-loader vulkan-swrast",
}


def check_vulkan() -> None:
    """Check that the Vulkan loader can be loaded, as the engines ``wgpu`` and ``vulkan`` do.

    Raises:
        EngineUnavailableError: it can't.
    """
    name = "vulkan-1.dll" if platform.system() == "Windows" else "libvulkan.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        raise EngineUnavailableError(
            f"the engine needs Vulkan, and {name} is not installed", _vulkan_hint()
        ) from None


def software_driver() -> Path:
    """Return the description of Mesa's software driver (llvmpipe), which lets Vulkan run on a CPU.

    Raises:
        EngineUnavailableError: the driver is not installed, or the Vulkan loader is not.
    """
    check_vulkan()
    data = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    for folder in ["/etc", *data.split(":")]:
        for driver in sorted(Path(folder, "vulkan/icd.d").glob("lvp_icd*.json")):
            return driver
    raise EngineUnavailableError(
        "the engine runs on a CPU by Mesa's Vulkan driver (llvmpipe), which is not installed", _vulkan_hint()
    )


def _vulkan_hint() -> str:
    if platform.system() == "Windows":
        return "install your graphics card's driver"
    for program, command in _INSTALL_VULKAN.items():
        if shutil.which(program):
            return command
    return "install the Vulkan loader and Mesa's Vulkan drivers (llvmpipe) with your package manager"


def unavailable(package: str, version: tuple[int, ...]) -> EngineUnavailableError:
    """Return the error that says why a package is missing, and what to do about it.

    Args:
        package: the package that can't be imported.
        version: of the Python that can't import it.
    """
    text = f"the engine needs {package}, which is not installed"
    if version < _OLDEST_PYTHON:
        has = ".".join(map(str, version[:2]))
        return EngineUnavailableError(
            f"{text}; it needs Python 3.10 or newer, and this is {has}",
            "make an environment with a newer Python, and there: pip install 'pie-sync[engine]'",
        )
    problem = _libc_problem()
    if problem:
        return EngineUnavailableError(
            f"{text}; its wheels for Linux need glibc 2.35 or newer, and this system has {problem}",
            "use a newer system or a container of one, such as Ubuntu 22.04, Debian 12 or Fedora 36",
        )
    return EngineUnavailableError(text, "pip install 'pie-sync[engine]'")


def _libc_problem() -> str:
    """Return which libc this Linux has, if there is no wheel of pie-server for it."""
    if platform.system() != "Linux":
        return ""
    name, text = platform.libc_ver()
    if name != "glibc":
        return "another libc"
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    return "" if version >= OLDEST_GLIBC else f"glibc {text}"
