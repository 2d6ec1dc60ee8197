"""The program of the child process: runs the real Pie server until its parent ends, or tells it to end.

The program, ``child.py JSON``, runs with the interpreter of an environment that has pie-server, and need not have
pie-sync; so this file imports nothing of the package. On stdout goes one line of JSON, which is one of

- ``{"uri": "ws://HOST:PORT", "http_uri": "http://HOST:PORT"}`` once the server answers;
- ``{"missing": PACKAGE, "python": [3, 9, 18]}``;
- ``{"error": TEXT}`` if the server does not start.

Everything else that anybody prints goes to stderr.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Python has put this file's folder first, where its neighbours would hide other modules of their names.
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]

import asyncio
import importlib.util
import json
import select
import shutil
import threading
import traceback
from typing import Any

#: How many seconds the server may take to shut down, including the rest of its boot.
SHUTDOWN_LIMIT = 10.0

#: How often to look whether the parent is still there, in seconds. The pipe alone does not tell, if the parent was
#: forked and the copy has the pipe's other end as well.
LOOK_EVERY = 1.0

REQUIRED = {"pie": "pie-server", "pie_language_python": "pie-language-python"}


def claim_stdout() -> int:
    """Return a descriptor for the line of JSON; what the engine prints on stdout goes to stderr from now on."""
    own = os.dup(1)
    os.dup2(2, 1)
    return own


def say(stdout: int, message: dict[str, Any]) -> None:
    """Write the line of JSON."""
    os.write(stdout, (json.dumps(message) + "\n").encode())


def wait_for_parents_end(parent: int) -> None:
    """Block until stdin has a byte or its end, or until the parent process has ended."""
    if sys.platform == "win32":
        os.read(0, 1)
    else:
        while os.getppid() == parent:
            if select.select([0], [], [], LOOK_EVERY)[0]:
                return


def watch_parent(home: str) -> threading.Event:
    """Start the thread that sets the returned event when the server has to end.

    The server must not outlive its parent, so a server that does not shut down in time is killed.
    """
    must_end = threading.Event()
    parent = os.getppid()

    def watch() -> None:
        wait_for_parents_end(parent)
        must_end.set()
        threading.Event().wait(SHUTDOWN_LIMIT)
        shutil.rmtree(home, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    return must_end


async def serve(settings: dict[str, Any], stdout: int, must_end: threading.Event) -> None:
    """Boot the server, say where it is, and keep it running until ``must_end`` is set."""
    # Imported late, when it is known that they are there.
    from pie.config import Config, EngineConfig, ModelConfig, ServerConfig  # noqa: PLC0415
    from pie.server import Server  # noqa: PLC0415

    engine = EngineConfig(**settings["engine"])
    model = ModelConfig(engine=engine, **settings["model"])
    async with Server(Config(server=ServerConfig(**settings["server"]), model=model)) as server:
        say(stdout, {"uri": server.url, "http_uri": server.http_url})
        await asyncio.to_thread(must_end.wait)


def main() -> int:
    """Run the server; the exit status is 1 if it did not start."""
    settings = json.loads(sys.argv[1])
    home = settings.pop("home")
    stdout = claim_stdout()
    must_end = watch_parent(home)
    try:
        for module, package in REQUIRED.items():
            if importlib.util.find_spec(module) is None:
                say(stdout, {"missing": package, "python": list(sys.version_info[:3])})
                return 1
        asyncio.run(serve(settings, stdout, must_end))
    except Exception as error:
        # The engine's own errors say it all; those of Python need their place.
        traceback.print_exc(limit=0 if isinstance(error, (RuntimeError, ValueError)) else None)
        say(stdout, {"error": f"{error}"})
        return 1
    finally:
        # Here and not in the parent, which may have been killed.
        shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
