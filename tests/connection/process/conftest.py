"""Servers of the process protocol, as Pie 0.4 and as Pie 0.5, and clients of them."""

from __future__ import annotations

import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer
from tests.connection.process import Requests, add_programs


@pytest.fixture
def requests(caplog):
    return Requests(caplog)


@pytest.fixture(params=["process", "process-0.5"])
def profile(request) -> str:
    return request.param


@pytest.fixture
def is_0_5(profile) -> bool:
    return profile == "process-0.5"


@pytest.fixture
def server(profile):
    with LocalServer(protocol=profile) as server:
        add_programs(server)
        yield server


@pytest.fixture
def early_server():
    """A server that answers a launch only after everything that the program sends before it waits.

    Servers before Pie 0.5 were never seen to do that.
    """
    with LocalServer(protocol="0.5", early_events=True) as server:
        add_programs(server)
        yield server


@pytest.fixture
def client(server):
    with PieClient(server.uri) as client:
        client.authenticate("alice")
        yield client


@pytest.fixture
def other(server):
    """A second client of the same user."""
    with PieClient(server.uri) as other:
        other.authenticate("alice")
        yield other
