"""A server of the process protocol in either flavour, and clients that are closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pie_sync.testing import LocalServer, ProgramContext

from .raw import ProcessClient

Connect = Callable[..., ProcessClient]


@pytest.fixture(params=["process", "process-0.5"])
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def gateway(flavour: str) -> bool:
    """Whether the server is one of Pie 0.5."""
    return flavour == "process-0.5"


@pytest.fixture
def server(flavour: str) -> Iterator[LocalServer]:
    with LocalServer(protocol=flavour) as server:
        yield server


@pytest.fixture
def connect(server: LocalServer, gateway: bool) -> Iterator[Connect]:
    """Makes clients of ``server``, authenticated as alice unless told otherwise."""
    clients: list[ProcessClient] = []

    def connect(username: str | None = "alice", to: LocalServer = server, **options: Any) -> ProcessClient:
        clients.append(ProcessClient(to.uri, gateway=gateway, username=username, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Connect) -> ProcessClient:
    return connect()


@pytest.fixture
def repeat(server: LocalServer) -> str:
    """The name of a program that prints and sends back every message; "done" completes it."""

    @server.program("repeat")
    def repeat(ctx: ProgramContext) -> str:
        while True:
            message = ctx.receive()
            if message == "done":
                return "bye"
            ctx.stdout(message)
            ctx.send(message)

    return "repeat"
