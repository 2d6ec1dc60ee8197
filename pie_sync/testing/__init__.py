"""LocalServer, a Pie server of any generation for demos and tests, and EngineServer, the real one with a model.

LocalServer runs inside the calling process and needs the extra ``testing``. EngineServer runs in a child process
and needs the extra ``engine``. Not in here: the client, apart from the pytest fixtures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._engine.errors import EngineError, EngineUnavailableError
    from ._programs.python_program import ProgramContext
    from ._programs.records import InstanceRecord
    from .engine_server import EngineServer
    from .local_server import LocalServer

__all__ = [
    "EngineError",
    "EngineServer",
    "EngineUnavailableError",
    "InstanceRecord",
    "LocalServer",
    "ProgramContext",
]

_MODULES = {
    "EngineError": "._engine.errors",
    "EngineServer": ".engine_server",
    "EngineUnavailableError": "._engine.errors",
    "InstanceRecord": "._programs.records",
    "LocalServer": ".local_server",
    "ProgramContext": "._programs.python_program",
}


def __getattr__(name: str) -> object:
    # Imported on first use: every run of pytest imports this package for its plugin, and the servers' imports are
    # slow to load, or not installed without the extra.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        globals()[name] = getattr(import_module(_MODULES[name], __name__), name)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ModuleNotFoundError(
            f"pie_sync.testing.{name} needs {package}, which is not installed: pip install 'pie-sync[testing]'",
            name=error.name,
        ) from error
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
