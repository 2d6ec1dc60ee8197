"""The user's cache folder: the tiny checkpoint, compiled programs, and logs, kept for later runs."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from pathlib import Path

from . import checkpoint

__all__ = ["cache_path", "new_log", "tiny_checkpoint"]

#: How many logs are kept; more than engines run at the same time.
KEPT_LOGS = 20

#: After how many seconds an unfinished checkpoint counts as left behind. To write one takes a second.
_ABANDONED = 3600.0


def cache_path(given: str | os.PathLike[str] | None = None) -> Path:
    r"""Return the cache folder as an absolute path, without making it.

    Args:
        given: the folder to use. None is the system's place for caches: ``$XDG_CACHE_HOME/pie-sync`` or
            ``~/.cache/pie-sync``; ``~/Library/Caches/pie-sync`` on macOS; ``%LOCALAPPDATA%\pie-sync\Cache`` on
            Windows.
    """
    if given is not None:
        return Path(given).expanduser().absolute()
    system = platform.system()
    if system == "Windows":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "pie-sync" / "Cache"
    if system == "Darwin":
        return Path.home() / "Library" / "Caches" / "pie-sync"
    # The XDG specification says that a relative path is to be ignored.
    configured = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(configured) if os.path.isabs(configured) else Path.home() / ".cache") / "pie-sync"


def tiny_checkpoint(cache: Path) -> Path:
    """Return the folder of the tiny checkpoint, which is made if the cache has none of this version.

    The folder gets its name when it is complete, so an interrupted run leaves nothing that counts. Of two
    processes at the same time each makes one, and the second to be ready takes the first's.
    """
    folder = cache / "checkpoints" / f"qwen35-tiny-{checkpoint.VERSION}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        checkpoint.write_checkpoint(partial)
        os.rename(partial, folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes have left of checkpoints."""
    for partial in folder.glob(".partial-*"):
        try:
            age = time.time() - partial.stat().st_mtime
        except OSError:
            continue  # its process has renamed or removed it just now
        if age > _ABANDONED:
            shutil.rmtree(partial, ignore_errors=True)


def new_log(cache: Path) -> Path:
    """Make an empty log file with a new name, and remove the oldest if there are more than ``KEPT_LOGS``."""
    folder = cache / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    # The names sort by time.
    for old in sorted(folder.glob("engine-*.log"))[: -KEPT_LOGS + 1]:
        try:
            old.unlink()
        except OSError:
            pass  # another process was first, or on Windows the log is in use
    prefix = time.strftime("engine-%Y%m%d-%H%M%S-")
    descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".log", dir=folder)
    os.close(descriptor)
    return Path(name)
