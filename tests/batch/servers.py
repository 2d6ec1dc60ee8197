"""Servers in processes of their own, which can be killed and started again at the same address."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import Any


class ServerProcess:
    """A LocalServer in a process of its own, with the program ``square``, whose instances take so many seconds.

    Args:
        seconds: how long an instance takes.
        options: the options of the server.
    """

    def __init__(self, seconds: float, **options: Any) -> None:
        self._seconds = seconds
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.start()

    @property
    def uri(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, at its old port if it had one."""
        command = [
            sys.executable,
            "-m",
            "tests.batch.servers",
            repr(self._seconds),
            repr(self._options),
            str(self.port),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """End it as a power cut does."""
        os.kill(self._process.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.stdin.close()
            process.wait(30)
            process.stdout.close()


@contextmanager
def server_processes(*seconds: float, **options: Any):
    servers: list[ServerProcess] = []
    try:
        for one in seconds:
            servers.append(ServerProcess(one, **options))
        yield servers
    finally:
        for server in servers:
            server.close()


def main() -> None:
    from pie_sync.testing import LocalServer, ProgramContext

    seconds, options, port = float(sys.argv[1]), eval(sys.argv[2]), int(sys.argv[3])
    with LocalServer(port=port, **options) as server:

        @server.program("square")
        def square(context: ProgramContext) -> str:
            time.sleep(seconds)  # the work of a model
            return str(int(context.args[0]) ** 2)

        print(server.port, flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
        threading.Event().wait()


if __name__ == "__main__":
    main()
