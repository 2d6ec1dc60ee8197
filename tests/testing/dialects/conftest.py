"""A program to which several test modules upload blobs."""

from __future__ import annotations

import pytest

from pie_sync.testing import LocalServer, ProgramContext


@pytest.fixture
def sizes(server: LocalServer) -> str:
    """The name of a program that sends the size of each blob it receives."""

    @server.program("sizes")
    def sizes(ctx: ProgramContext) -> None:
        while True:
            ctx.send(str(len(ctx.receive_blob())))

    return "sizes"
