"""PieClient on the process protocol, against LocalServer as Pie 0.4 and as Pie 0.5."""

from __future__ import annotations

import json
import logging

import pytest

from pie_sync.testing import LocalServer, ProgramContext

CHUNK = 256 * 1024
PATIENCE = 20.0  # seconds after which a test that waits fails
SHORT = 0.3  # seconds to wait for an event that never comes
UNKNOWN_ID = "00000000-0000-0000-0000-000000000005"

only_0_4 = pytest.mark.parametrize("profile", ["process"])
only_0_5 = pytest.mark.parametrize("profile", ["process-0.5"])
every_protocol = pytest.mark.parametrize("profile", ["instance", "process", "process-0.5"])


def manifest_of(name: str, version: str = "1.0.0") -> str:
    return f'[package]\nname = "{name}"\nversion = "{version}"\n'


class Requests:
    """The requests that the server received, from its log."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "pie_sync.testing.requests")
        self._caplog = caplog

    def _args(self):
        return [record.args for record in self._caplog.records if record.name == "pie_sync.testing.requests"]

    @property
    def upgrades(self) -> list[tuple[str, str | None]]:
        """The path and the identity of each upgrade request."""
        return [(args[0], args[1].get("x-pie-identity")) for args in self._args() if len(args) == 2]

    @property
    def messages(self) -> list[str]:
        """The type of each message that the server understood."""
        return [args[0] for args in self._args() if len(args) == 1]

    def clear(self) -> None:
        self._caplog.clear()


def add_programs(server: LocalServer) -> None:
    # (With the version that programs have by default on the process protocol: on the other one it must be told.)
    server.program("given@0.1.0")(lambda context: json.dumps([context.args, context.input]))

    @server.program("echo")
    def echo(context: ProgramContext) -> str:
        while (message := context.receive()) != "stop":
            context.send(message)
        return "stopped"

    @server.program("everything")
    def everything(context: ProgramContext) -> dict[str, int]:
        context.stdout("out")
        context.stderr("err")
        context.send("message")
        context.send_blob(b"blob", name="../a.bin")
        context.send_blob(bytes(3 * CHUNK))
        return {"answer": 42}

    @server.program("sizes")
    def sizes(context: ProgramContext) -> str:
        """Send a message before each blob, and the size of each blob."""
        for _ in range(2):
            context.send("ready")
            context.send(str(len(context.receive_blob())))
        return "done"

    @server.program("failing")
    def failing(context: ProgramContext) -> None:
        raise RuntimeError("the oven is cold")


def stdout_of(instance) -> str:
    return instance.wait(PATIENCE, check=True).stdout
