"""``ping`` and ``query``."""

from __future__ import annotations

import json

from pie_sync import PieClient
from pie_sync.testing import LocalServer

from .conftest import RunHere


def test_ping(run_here: RunHere, server: LocalServer) -> None:
    result = run_here("ping", PIE_URI=server.uri)
    address, milliseconds, unit, *rest = result.stdout.split()
    assert (result.code, result.stderr) == (0, "")
    assert (address, unit, rest) == (server.uri + ":", "ms,", ["instance", "protocol"])
    assert float(milliseconds) < 5000


def test_query(run_here: RunHere, server: LocalServer, client: PieClient) -> None:
    assert json.loads(run_here("query", "model_status", "--uri", server.uri).stdout)
    assert run_here("query", "program_exists", "0" * 64, "--uri", server.uri).stdout == "false\n"
    result = run_here("query", "weather", "--uri", server.uri, "--timeout", "0.2")
    assert result.code == 1
    assert "never answer a subject that they don't know\nhint: --timeout SECONDS" in result.stderr


def test_a_query_that_the_server_refuses(run_here: RunHere) -> None:
    with LocalServer(protocol="process-0.5") as server:
        result = run_here("query", "weather", "--uri", server.uri)
    assert (result.code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: the server does not answer this query: ")
