"""The JSON argument of a process, as its program gets it."""

from __future__ import annotations

import pytest

from pie_sync.testing import LocalServer
from tests.testing.raw_process import ProcessClient


@pytest.fixture(params=["process", "process-0.5"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1]}', {"a": [1]}),
        ("[]", []),
        ('"x"', "x"),
        (" 5 ", 5),
        ("", None),
        ("{", None),
        ("[" * 5000, None),
    ],
)
def test_the_input(server: LocalServer, client: ProcessClient, text: str, value: object) -> None:
    seen = []
    server.program("tool")(lambda ctx: seen.append((ctx.args, ctx.input)))
    list(client.events(client.launch("tool", text)))
    assert seen == [([text], value)]
