"""Fixtures for pytest, which finds this module by its entry point: servers, and clients of them.

Every run of pytest imports this module if pie-sync is installed, also without a test that uses the fixtures.
So the servers, which are slow to load or need an extra, are imported when a test uses a fixture.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from ..client import PieClient
from ..errors import AuthenticationError

if TYPE_CHECKING:
    from .engine_server import EngineServer
    from .local_server import LocalServer

__all__ = ["pie_client", "pie_engine", "pie_engine_client", "pie_engine_options", "pie_server"]

MARKER = "pie_server"
USERNAME = "tester"

_MARKER_HELP = (
    f"{MARKER}(**options): the options of LocalServer for the fixture pie_server,"
    f' such as @pytest.mark.{MARKER}(protocol="process-0.5")'
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, for ``--strict-markers`` and ``--markers``."""
    config.addinivalue_line("markers", _MARKER_HELP)


@pytest.fixture
def pie_server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """A Pie server for one test (``pie_sync.testing.LocalServer``), which is closed after the test.

    Its options are the keyword arguments of the nearest ``@pytest.mark.pie_server(...)``, and the dict of
    ``@pytest.mark.parametrize("pie_server", [...], indirect=True)``, which takes precedence.
    """
    options = _options(request)
    try:
        from .local_server import LocalServer  # noqa: PLC0415 - see the top of the module
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise _usage_error(
            f"pie_server needs {package}, which is not installed: pip install 'pie-sync[testing]'"
        ) from None
    known = inspect.signature(LocalServer).parameters
    unknown = [name for name in options if name not in known]
    if unknown:
        raise _usage_error(
            f"pie_server: LocalServer has no option {', '.join(unknown)}; it has {', '.join(known)}"
        )
    try:
        server = LocalServer(**options)
    except ValueError as error:
        raise _usage_error(f"pie_server: {error}") from None
    with server:
        yield server


@pytest.fixture
def pie_client(pie_server: LocalServer) -> Iterator[PieClient]:
    """A ``pie_sync.PieClient`` of ``pie_server``, authenticated as ``tester``, which is closed after the test.

    It has no key and no trusted certificate: for a server with ``users`` or ``ssl_context``, make a client in the
    test.
    """
    own = "make a PieClient(pie_server.uri, ...) in the test, or a fixture pie_client of your own"
    if pie_server.uri.startswith("wss:"):
        raise _usage_error(f"pie_client: it doesn't know which certificate to trust; {own}")
    with PieClient(pie_server.uri) as client:
        try:
            client.authenticate(USERNAME)
        except AuthenticationError as error:
            raise _usage_error(f"pie_client: the server doesn't let {USERNAME!r} in ({error}); {own}") from None
        yield client


@pytest.fixture(scope="session")
def pie_engine_options() -> dict[str, Any]:
    """The options of ``pie_engine``: none. Override this fixture in a ``conftest.py`` to have others."""
    return {}


@pytest.fixture(scope="session")
def pie_engine(pie_engine_options: dict[str, Any]) -> Iterator[EngineServer]:
    """The real Pie server with a tiny model (``pie_sync.testing.EngineServer``), one for all tests of the run.

    It is started by the first test that uses it and closed after the last. Where it can't run, the tests are
    skipped, with the reason and what to install. Each worker of pytest-xdist that runs such a test starts a server
    of its own, with 1.5 GB of memory; ``--dist loadfile`` gives all tests of a file to one worker.
    """
    from ._engine.errors import EngineUnavailableError  # noqa: PLC0415 - see the top of the module
    from .engine_server import EngineServer  # noqa: PLC0415

    try:
        server = EngineServer(**pie_engine_options)
    except (TypeError, ValueError) as error:
        raise _usage_error(f"pie_engine_options: {error}") from None
    try:
        server.start()
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture
def pie_engine_client(pie_engine: EngineServer) -> Iterator[PieClient]:
    """A ``pie_sync.PieClient`` of ``pie_engine``, authenticated as ``tester``, which is closed after the test."""
    with PieClient(pie_engine.uri) as client:
        client.authenticate(USERNAME)
        yield client


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the options for this test's server."""
    mark = request.node.get_closest_marker(MARKER)
    if mark is not None and mark.args:
        raise _usage_error(f"@pytest.mark.{MARKER} takes options by their names (protocol=...), not {mark.args!r}")
    parameter = getattr(request, "param", {})
    if not isinstance(parameter, dict):
        raise _usage_error(f"pie_server: a parameter must be a dict of options of LocalServer, not {parameter!r}")
    return {**(mark.kwargs if mark else {}), **parameter}


def _usage_error(text: str) -> BaseException:
    """Return the exception that ends a test with this text and without a traceback."""
    return pytest.fail.Exception(text, pytrace=False)
