"""A server, and clients that are closed after the test. A module that defines ``protocol`` chooses another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pie_sync.testing import LocalServer, ProgramContext
from tests.fake_pie_server import make_python

from .raw import RawClient
from .raw_process import ProcessClient

#: Makes a client: of the instance protocol (RawClient) or of the process protocol (ProcessClient).
Connect = Callable[..., Any]


@pytest.fixture
def protocol() -> str:
    return "instance"


@pytest.fixture
def gateway(protocol: str) -> bool:
    """Whether the server is one of Pie 0.5."""
    return protocol in ("process-0.5", "0.5")


@pytest.fixture
def server(protocol: str) -> Iterator[LocalServer]:
    with LocalServer(protocol=protocol) as server:
        yield server


@pytest.fixture
def connect(server: LocalServer, protocol: str, gateway: bool) -> Iterator[Connect]:
    """Makes clients of ``server``, authenticated as alice by default."""
    clients: list[RawClient | ProcessClient] = []

    def connect(
        username: str | None = "alice", to: LocalServer = server, **options: Any
    ) -> RawClient | ProcessClient:
        if protocol in ("instance", "0.2", "0.2-names"):
            clients.append(RawClient(to.uri, username, **options))
        else:
            clients.append(ProcessClient(to.uri, gateway=gateway, username=username, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Connect) -> RawClient | ProcessClient:
    return connect()


@pytest.fixture
def repeat(server: LocalServer, protocol: str) -> str:
    """The name of a program that sends back every message; "done" completes it.

    On the process protocol it prints each message as well.
    """

    @server.program("repeat")
    def repeat(ctx: ProgramContext) -> str:
        while True:
            message = ctx.receive()
            if message == "done":
                return "bye"
            if protocol != "instance":
                ctx.stdout(message)
            ctx.send(message)

    return "repeat"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter of an environment that has pie-server, as it seems."""
    return make_python(tmp_path)
