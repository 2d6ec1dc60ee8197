"""LocalServer, a Pie server of any generation for demos and tests, inside the calling process.

Needs the extra ``testing``. Not in here: the client, apart from the pytest fixture ``pie_client``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._programs.python_program import ProgramContext
    from ._programs.records import InstanceRecord
    from .local_server import LocalServer

__all__ = ["InstanceRecord", "LocalServer", "ProgramContext"]


def __getattr__(name: str) -> object:
    # Imported on first use: every run of pytest imports this package for its plugin, and the server's imports are
    # slow to load, or not installed without the extra.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from . import local_server  # noqa: PLC0415
        from ._programs import python_program, records  # noqa: PLC0415
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ModuleNotFoundError(
            f"pie_sync.testing.{name} needs {package}, which is not installed: pip install 'pie-sync[testing]'",
            name=error.name,
        ) from error

    globals().update(
        InstanceRecord=records.InstanceRecord,
        LocalServer=local_server.LocalServer,
        ProgramContext=python_program.ProgramContext,
    )
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
