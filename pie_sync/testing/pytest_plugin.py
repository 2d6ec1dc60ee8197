"""The fixtures ``pie_server`` and ``pie_client`` for pytest, which finds this module by its entry point.

Every run of pytest imports it wherever pie-sync is installed, whether a test wants the fixtures or not. So the
server, which is slow to load and needs an extra, is imported when a test asks for one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from ..client import PieClient
from ..errors import AuthenticationError

if TYPE_CHECKING:
    from .local_server import LocalServer

__all__ = ["pie_client", "pie_server"]

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
    """A Pie server for this test (``pie_sync.testing.LocalServer``), which is closed after it.

    Its options are the keyword arguments of the nearest ``@pytest.mark.pie_server(...)``, or the dict that
    ``@pytest.mark.parametrize("pie_server", [...], indirect=True)`` gives; the latter count more.
    """
    options = _options(request)
    try:
        from .local_server import LocalServer  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise _mistake(
            f"pie_server needs {package}, which is not installed: pip install 'pie-sync[testing]'"
        ) from None
    known = inspect.signature(LocalServer).parameters
    unknown = [name for name in options if name not in known]
    if unknown:
        raise _mistake(f"pie_server: LocalServer has no option {', '.join(unknown)}; it has {', '.join(known)}")
    try:
        server = LocalServer(**options)
    except ValueError as error:
        raise _mistake(f"pie_server: {error}") from None
    with server:
        yield server


@pytest.fixture
def pie_client(pie_server: LocalServer) -> Iterator[PieClient]:
    """A ``pie_sync.PieClient`` of ``pie_server``, authenticated as ``tester``, which is closed after the test.

    It has neither a key nor a certificate to trust: for a server with ``users`` or ``ssl_context`` a test makes
    its own client.
    """
    own = "make a PieClient(pie_server.uri, ...) in the test, or a fixture pie_client of your own"
    if pie_server.uri.startswith("wss:"):
        raise _mistake(f"pie_client: it doesn't know which certificate to trust; {own}")
    with PieClient(pie_server.uri) as client:
        try:
            client.authenticate(USERNAME)
        except AuthenticationError as error:
            raise _mistake(f"pie_client: the server doesn't let {USERNAME!r} in ({error}); {own}") from None
        yield client


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the options for this test's server."""
    mark = request.node.get_closest_marker(MARKER)
    if mark is not None and mark.args:
        raise _mistake(f"@pytest.mark.{MARKER} takes options by their names (protocol=...), not {mark.args!r}")
    parameter = getattr(request, "param", {})
    if not isinstance(parameter, dict):
        raise _mistake(f"pie_server: a parameter must be a dict of options of LocalServer, not {parameter!r}")
    return {**(mark.kwargs if mark else {}), **parameter}


def _mistake(text: str) -> BaseException:
    """Return what ends a test with an error of which nothing but the text is shown."""
    return pytest.fail.Exception(text, pytrace=False)
