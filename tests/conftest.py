"""Fixtures that every test may use, and the check that no test leaves a thread behind."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pie_sync import ParsedPrivateKey, PieClient
from pie_sync.testing import LocalServer
from tests.programs import add_programs

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How many seconds a thread may take to end after its test.
THREAD_GRACE = 5.0


def pytest_configure() -> None:
    # A shell's background jobs ignore Ctrl-C, which many tests need.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes (``-n``), give each the next test, but all tests of the real server to one process.

    So the real server is booted once, and only one test at a time measures its behaviour. The largest group, which
    is that one, begins first.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "real_server" if "/real_server/" in nodeid else nodeid

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + THREAD_GRACE
    for thread in set(threading.enumerate()) - before:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
    assert not left, f"threads left behind: {left}"


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        add_programs(server)
        yield server


@pytest.fixture
def client(server: LocalServer) -> Iterator[PieClient]:
    """A client of ``server``, authenticated as alice."""
    with PieClient(server.uri) as client:
        client.authenticate("alice")
        yield client


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory):
    """An Ed25519 key made by ssh-keygen; the public half is in a file beside it, with the suffix .pub."""
    import subprocess

    path = tmp_path_factory.mktemp("keys") / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture(scope="session")
def private_key(key_file) -> ParsedPrivateKey:
    return ParsedPrivateKey.from_file(key_file)
