from __future__ import annotations

from collections.abc import Iterator

import pytest

from pie_sync.testing import EngineUnavailableError

from . import harness

TEST_LIMIT = 120.0  # seconds


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # In a fresh checkout the first test installs the server's environment, which has a longer limit of its own.
    for item in items:
        if "real_server" in getattr(item, "fixturenames", ()) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_LIMIT, func_only=True))


def start_server() -> Iterator[harness.RealServer]:
    """Run a real pie-server 0.5.2; skip or fail the test if it can't run here."""
    try:
        server = harness.RealServer()
        server.start()
    except EngineUnavailableError as error:
        message = f"the real Pie server can't run here: {error}"
        if harness.required():
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    with server:
        yield server


@pytest.fixture(scope="session")
def real_server() -> Iterator[harness.RealServer]:
    """One server for all tests that don't start one of their own."""
    yield from start_server()
