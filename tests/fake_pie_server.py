"""A Python with a fake pie-server, so that EngineServer is tested where the real one can't run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: What it does depends on the port that it is told to listen on.
FAKE_SERVER = """
import os, signal, sys, time

class Server:
    def __init__(self, config):
        self.config = config

    async def __aenter__(self):
        port = self.config.server.port
        print("on stdout:", os.environ["PIE_HOME"])
        print("on stderr", "pid:", os.getpid(), file=sys.stderr, flush=True)
        if port == 1:
            raise RuntimeError("no device\\x1b here: " + os.environ["PIE_HOME"] + "/models")
        if port == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if port == 3:
            time.sleep(600)
        if port == 4:
            {}["a mistake"]
        self.url, self.http_url = f"ws://{self.config.server.host}:{port}", f"http://here:{port}"
        return self

    async def __aexit__(self, *exception):
        if self.config.server.port == 5:
            time.sleep(600)
        print("shut down")
"""

FAKE_CONFIG = """
class Settings:
    def __init__(self, **settings):
        self.__dict__.update(settings)

Config = EngineConfig = ModelConfig = ServerConfig = Settings
"""


def make_python(folder: Path) -> Path:
    """Make an interpreter of an environment that has pie-server, as it seems; its packages are in ``packages``."""
    packages = folder / "packages"
    for name, content in (
        ("pie/__init__.py", ""),
        ("pie/config.py", FAKE_CONFIG),
        ("pie/server.py", FAKE_SERVER),
        ("pie_language_python/__init__.py", ""),
    ):
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} "$@"\n')
    os.chmod(python, 0o755)
    return python
