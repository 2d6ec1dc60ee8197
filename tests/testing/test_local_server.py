"""Starting and closing a LocalServer, and its options."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from typing import Any, cast

import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer, ProgramContext
from pie_sync.testing.local_server import _peer
from tests.testing import programs
from tests.testing.conftest import Connect
from tests.testing.raw import CLOSE_LIMIT, PATIENCE, ClosedError, RawClient


def test_the_uri_tells_where_the_server_listens() -> None:
    with LocalServer() as server:
        assert server.uri == f"ws://127.0.0.1:{server.port}"
        with RawClient(server.uri) as client:
            client.assert_unanswered()


def test_before_the_start_there_is_no_uri() -> None:
    server = LocalServer()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.uri
    server.close()


def test_start_and_close_may_be_called_again() -> None:
    server = LocalServer()
    server.start()
    port = server.port
    server.start()
    assert server.port == port
    server.close()
    server.close()
    with pytest.raises(RuntimeError, match="closed"):
        server.start()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_new_server_can_take_the_port_at_once() -> None:
    with LocalServer() as server:
        port = server.port
        client = RawClient(server.uri)
    with LocalServer(port=port) as server:
        assert server.port == port
        with RawClient(server.uri) as again:
            again.assert_unanswered()
        with pytest.raises(OSError):  # noqa: PT011 - the number differs between systems
            LocalServer(port=port).start()
    client.close()


def test_close_ends_connections_instances_and_threads(connect: Connect) -> None:
    before = set(threading.enumerate())
    ended = threading.Event()
    with LocalServer() as server:

        @server.program("waiting")
        def waiting(ctx: ProgramContext) -> None:
            try:
                ctx.receive()
            finally:
                ended.set()

        client = connect(to=server)
        client.launch("waiting")
        client.launch("waiting", detached=True)
        for wasm in (programs.ENDLESS_LOOP, programs.ECHO, programs.sleep(3600 * 10**9)):
            client.launch_hash(client.upload_program(wasm)["result"], detached=True)
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < CLOSE_LIMIT
    assert set(threading.enumerate()) <= before
    assert ended.is_set()
    with pytest.raises(ClosedError):
        client.receive()


def test_close_does_not_wait_for_a_program_that_does_not_notice(connect: Connect) -> None:
    go, ended = threading.Event(), threading.Event()
    with LocalServer() as server:

        @server.program("deaf")
        def deaf(ctx: ProgramContext) -> None:
            try:
                assert go.wait(PATIENCE)
                ctx.send("too late")
            finally:
                ended.set()

        connect(to=server).launch("deaf")
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < CLOSE_LIMIT
    go.set()
    assert ended.wait(PATIENCE)


def test_a_program_may_close_its_server(connect: Connect) -> None:
    with LocalServer() as server:
        closed = threading.Event()

        @server.program("closer")
        def closer(ctx: ProgramContext) -> None:
            server.close()
            closed.set()

        # The answer to the launch may be lost with the connection.
        connect(to=server).send(
            "launch_instance_from_registry", corr_id=5, inferlet="closer", arguments=[], detached=False
        )
        assert closed.wait(PATIENCE)


def test_the_decorator_returns_the_function(server: LocalServer, connect: Connect) -> None:
    def function(ctx: ProgramContext) -> None:
        """Nothing."""

    assert server.program("a")(function) is function
    with pytest.raises(ValueError, match="a/b/c"):
        server.program("a/b/c")


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan])
def test_a_delay_that_is_none_is_refused(server: LocalServer, seconds: float) -> None:
    with pytest.raises(ValueError, match="0 seconds or more"):
        server.delay(seconds)
    server.delay(0)


def test_it_can_be_set_before_the_start_and_after_the_end() -> None:
    server = LocalServer()
    server.delay(0.05)
    with server, RawClient(server.uri) as client:
        started = time.monotonic()
        client.assert_unanswered()
        assert time.monotonic() - started >= 0.05
    server.delay(1)


def test_activity_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pie_sync.testing.activity")
    with LocalServer() as server, PieClient(server.uri) as client:
        server.program("hi")(lambda context: "hi")
        client.authenticate("alice")
        client.run("hi")
        (record,) = server.instances
    assert [entry.getMessage() for entry in caplog.records if entry.name == "pie_sync.testing.activity"] == [
        "connection 1 from 127.0.0.1",
        f"launched hi as {record.id} for alice",
        f"ended {record.id} (hi): Completed",
        "connection 1 has ended",
    ]


def test_a_client_that_is_gone_before_it_is_named() -> None:
    class Gone:
        @property
        def remote_address(self) -> object:
            raise OSError("Transport endpoint is not connected")

    assert _peer(cast(Any, Gone())) == "a client that is gone already"
