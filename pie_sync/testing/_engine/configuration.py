"""Which engine runs on which device, with which model and how much memory.

Seen to work: ``wgpu`` on Linux, on a CPU. What is said of CUDA, Metal and Vulkan is read from pie-server 0.5.2 and
from the error messages of its engines, and was tried on no such device.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import PieValueError

__all__ = ["ENGINES", "Machine", "choose_engine", "configuration", "model_path"]

#: The engines by the names that users write, with pie-server's own.
ENGINES = {"cuda": "cuda_native", "metal": "metal", "vulkan": "vulkan", "wgpu": "wgpu"}

#: What wgpu takes unless told otherwise. With 2 GiB it refuses the tiny model.
_WGPU_MEMORY = "4GiB"

#: With its own numbers, wgpu would reserve more for the tiny model than one allocation may have. On a CPU, a step
#: of four instances takes a second or two; one of seven was not done after three minutes, on a busy machine.
_TINY_OPTIONS = {"max_forward_tokens": 256, "max_forward_requests": 4, "max_total_pages": 512}

_MEMORY = re.compile(r"[0-9]+(KiB|MiB|GiB)")


class Machine(NamedTuple):
    """What decides about the engine.

    Attributes:
        system: as ``platform.system()`` has it.
        has_cuda: there is an NVIDIA card with its driver.
        has_gpu: there is any graphics card with a driver of the kernel.
    """

    system: str
    has_cuda: bool
    has_gpu: bool

    @classmethod
    def here(cls, root: Path = Path("/")) -> Machine:
        """Look at this machine, without loading any driver."""
        system = platform.system()
        if system == "Windows":
            folder = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32")
            return cls(system, (folder / "nvcuda.dll").exists(), (folder / "vulkan-1.dll").exists())
        nvidia = (root / "dev/nvidia0", root / "usr/lib/wsl/lib/libcuda.so.1")
        has_gpu = any((root / "dev/dri").glob("renderD*"))
        return cls(system, any(path.exists() for path in nvidia), has_gpu)


def choose_engine(machine: Machine, *, tiny: bool) -> tuple[str, bool]:
    """Return the engine for a model, by its name in ``ENGINES``, and whether it runs on the CPU.

    A model of the user's gets the fastest device there is. The tiny model runs on the CPU of any Linux machine, so
    that it says the same everywhere.
    """
    if machine.system == "Darwin":
        return ("wgpu" if tiny else "metal"), False  # the wheel's wgpu uses Metal
    if machine.system == "Windows":
        return ("cuda" if machine.has_cuda and not tiny else "vulkan"), False  # the wheel has no wgpu
    if tiny or not (machine.has_cuda or machine.has_gpu):
        return "wgpu", True
    return ("cuda" if machine.has_cuda else "vulkan"), False


def model_path(model: str | os.PathLike[str]) -> str | None:
    """Return the absolute path that ``model`` means, or None if it is the name of a model.

    A path is an ``os.PathLike``, or a text that is absolute or begins with ``.`` or ``~``. What files happen to
    exist decides nothing.
    """
    if isinstance(model, str) and not (os.path.isabs(model) or model.startswith((".", "~"))):
        return None
    return os.path.abspath(os.path.expanduser(model))


def configuration(
    model: str,
    *,
    sku: str | None,
    host: str,
    port: int,
    engine: str,
    device: str | None,
    memory: str | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the settings for ``child.py``, as JSON can say them.

    Args:
        model: a checkpoint's folder, or a model's name.
        sku: which of the engine's built-in models the checkpoint is, if it is the tiny one.
        host: the address to listen on.
        port: the TCP port; 0 takes a free one.
        engine: a name in ``ENGINES``.
        device: the engine's name for a device. None is its first one.
        memory: how much memory wgpu reserves.
        options: options of the engine, which take precedence.

    Raises:
        PieValueError: ``engine``, ``memory`` or ``port`` can't be used.
    """
    if engine not in ENGINES:
        raise PieValueError(f"there is no engine {engine!r}; there are {', '.join(ENGINES)}")
    if not 0 <= port <= 65535:
        raise PieValueError(f"port must be from 0 to 65535, not {port!r}")
    if memory is not None and not _MEMORY.fullmatch(memory):
        raise PieValueError(f"memory must be a number with its unit, such as '4GiB', not {memory!r}")
    if memory is not None and engine != "wgpu":
        raise PieValueError(
            f"memory is for the engine wgpu; with {engine}, limit a share of the device's memory:"
            " options={'gpu_mem_utilization': 0.5}"
        )
    chosen: dict[str, Any] = dict(_TINY_OPTIONS) if sku else {}
    if engine == "wgpu":
        chosen["device_memory"] = memory or _WGPU_MEMORY
    return {
        "server": {"host": host, "port": port},
        "model": {"hf_repo": model, "sku": sku},
        "engine": {
            "type": ENGINES[engine],
            "device": [device or f"{engine}:0"],
            "options": {**chosen, **options},
        },
    }
