"""A server, and clients that are closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pie_sync.testing import LocalServer, ProgramContext

from .raw import RawClient

Connect = Callable[..., RawClient]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def connect(server: LocalServer) -> Iterator[Connect]:
    """Makes clients of ``server``, authenticated as alice unless told otherwise."""
    clients: list[RawClient] = []

    def connect(username: str | None = "alice", to: LocalServer = server, **options: object) -> RawClient:
        clients.append(RawClient(to.uri, username, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Connect) -> RawClient:
    return connect()


@pytest.fixture
def repeat(server: LocalServer) -> str:
    """The name of a program that sends back every message; "done" completes it."""

    @server.program("repeat")
    def repeat(ctx: ProgramContext) -> str:
        while True:
            message = ctx.receive()
            if message == "done":
                return "bye"
            ctx.send(message)

    return "repeat"
