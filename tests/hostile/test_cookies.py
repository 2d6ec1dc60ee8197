"""Cookies: neither kept nor sent, and never a reason to fail. websocket-client has a jar for the whole process."""

from __future__ import annotations

import socket

import pytest
import websocket

from pie_sync import PieClient
from tests.faults.raw_server import RawPeer, raw_server


@pytest.fixture
def names(monkeypatch):
    """Every host below pie.example is this machine."""
    real = socket.getaddrinfo

    def look_up(host, *args, **options):
        return real("127.0.0.1" if host.endswith("pie.example") else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


class CookieServer:
    """Sets a cookie with every upgrade.

    Attributes:
        cookies: what the clients' requests had, one after the other.
    """

    def __init__(self, cookie: str) -> None:
        self.cookies: list[list[str]] = []
        self._cookie = cookie

    def serve(self, peer: RawPeer) -> None:
        request = peer._next_event()
        self.cookies.append(request.headers.get_all("Cookie"))
        response = peer._protocol.accept(request)
        response.headers["Set-Cookie"] = self._cookie
        peer._protocol.send_response(response)
        peer.socket.sendall(b"".join(peer._protocol.data_to_send()))
        peer.receive()


def uri_of(uri: str, name: str) -> str:
    return uri.replace("127.0.0.1", name)


@pytest.mark.parametrize(
    "cookie",
    [
        "session=of-alice; Domain=pie.example",
        "session=of-alice; Secure; Domain=.pie.example",
        "a/b=1; Path=/",
        "=;;=",
    ],
)
def test_what_one_client_is_given_no_other_sends(names, cookie):
    server = CookieServer(cookie)
    with raw_server(server.serve) as uri:
        for name in ("a.pie.example", "b.pie.example", "pie.example"):
            with PieClient(uri_of(uri, name)):
                pass
    assert server.cookies == [[], [], []]


def test_what_others_of_the_process_are_given_is_not_sent(names):
    """A program may use websocket-client for something else."""
    server = CookieServer("session=of-somebody; Domain=pie.example")
    with raw_server(server.serve) as uri:
        for _ in range(2):
            other = websocket.create_connection(uri_of(uri, "pie.example"), timeout=10)
            other.close()
        with PieClient(uri_of(uri, "pie.example")):
            pass
    assert server.cookies == [[], ["session=of-somebody"], []]


def test_the_users_own_are_sent(names):
    server = CookieServer("session=of-alice; Domain=pie.example")
    with raw_server(server.serve) as uri:
        with PieClient(uri_of(uri, "pie.example"), headers={"Cookie": "mine=1"}):
            pass
    assert server.cookies == [["mine=1"]]
