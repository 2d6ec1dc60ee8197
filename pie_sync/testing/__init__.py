"""A Pie server of any generation for demos and tests, inside the calling process. Needs the extra ``testing``."""

from __future__ import annotations

from ._python_program import ProgramContext
from .local_server import LocalServer

__all__ = ["LocalServer", "ProgramContext"]
