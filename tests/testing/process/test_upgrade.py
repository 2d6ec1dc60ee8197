"""Before the first message: path, headers, and options that don't fit together."""

from __future__ import annotations

import http.client
import logging
from typing import Any

import pytest
import websocket

from pie_sync.testing import LocalServer

from ..raw import PATIENCE
from .conftest import Connect
from .raw import ProcessClient

IDENTITY = {"x-pie-identity": "tenant/name"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def upgrade(server: LocalServer, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Ask for a WebSocket; return the status and the body of a refusal."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={**UPGRADE, **headers})
        response = connection.getresponse()
        return response.status, b"" if response.status == 101 else response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("flavour", ["process-0.5"])
@pytest.mark.parametrize("path", ["/", "/v1", "/v1/ws/", "/v2/ws", "/v1/ws2", "/v1/WS"])
@pytest.mark.parametrize("headers", [{}, IDENTITY], ids=["anonymous", "identified"])
def test_0_5_has_one_path(server: LocalServer, path: str, headers: dict[str, str]) -> None:
    assert upgrade(server, path, headers) == (404, b"")


@pytest.mark.parametrize("flavour", ["process-0.5"])
@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, b"identity: missing `x-pie-identity` (edge must inject verified identity)"),
        ({"x-pie-identity": ""}, b"identity: empty `x-pie-identity`"),
        ({"x-pie-identity": "  "}, b"identity: empty `x-pie-identity`"),
    ],
    ids=["missing", "empty", "blank"],
)
def test_0_5_wants_to_be_told_who_is_there(server: LocalServer, headers: dict[str, str], text: bytes) -> None:
    assert upgrade(server, "/v1/ws", headers) == (401, text)


@pytest.mark.parametrize("flavour", ["process-0.5"])
@pytest.mark.parametrize("name", ["x-pie-identity", "X-Pie-Identity"])
@pytest.mark.parametrize("path", ["/v1/ws", "/v1/ws?a=b"])
def test_0_5_takes_any_identity(server: LocalServer, name: str, path: str) -> None:
    assert upgrade(server, path, {name: "nonsense"}) == (101, b"")


@pytest.mark.parametrize("flavour", ["process"])
@pytest.mark.parametrize("path", ["/", "/v1/ws", "/any/path?a=b"])
def test_before_0_5_every_path_will_do(server: LocalServer, path: str) -> None:
    assert upgrade(server, path, {}) == (101, b"")


def test_the_uri_has_no_path(server: LocalServer) -> None:
    assert server.uri == f"ws://127.0.0.1:{server.port}"


@pytest.mark.parametrize("flavour", ["process-0.5"])
def test_a_refused_client_does_not_disturb_the_next(server: LocalServer, connect: Connect) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
        ProcessClient(server.uri, gateway=False)
    connect().assert_unanswered()


def test_requests_are_logged(connect: Connect, gateway: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pie_sync.testing.requests")
    client = connect(None, header=["x-pie-identity: a/b"])
    client.ask("auth_identify", username="alice")
    client.assert_unanswered()
    (path, headers), *messages = (
        record.args for record in caplog.records if record.name == "pie_sync.testing.requests"
    )
    assert path == ("/v1/ws" if gateway else "/")
    assert headers["x-pie-identity"] == "a/b"
    assert messages == [("auth_identify",), ("ping",)]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"protocol": "process-0.4"}, "instance, process, process-0.5"),
        ({"protocol": "process", "variant": "name"}, "for the instance protocol"),
        ({"protocol": "process-0.5", "challenge_message": True}, "for the instance protocol"),
        ({"protocol": "instance", "early_events": True}, "for the process protocol"),
        ({"variant": "number"}, "hash, name"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        LocalServer(**options)
