"""The way to a server, over real sockets."""

from __future__ import annotations

import socket
import ssl
from time import monotonic

import pytest
import trustme

from pie_sync import PieClient, PieConnectionError, PieConnectTimeoutError
from pie_sync._transport import dialer as dialer_module
from pie_sync._transport.dialer import Dialer
from pie_sync._transport.racing import ATTEMPT_DELAY
from pie_sync._transport.uri import parse_uri
from pie_sync.testing import LocalServer
from tests.transport.test_racing import NO_FAMILY, dead, found  # noqa: F401 - a fixture


def name_for(monkeypatch, *addresses: tuple, name: str = "pie.example") -> None:
    """Let a host have some addresses."""
    real = socket.getaddrinfo

    def look_up(host, *args, **options):
        if host == name and "flags" not in options:
            return list(addresses)
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for variable in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)


def test_a_dead_first_address_does_not_use_up_the_time(server, monkeypatch, dead):  # noqa: F811
    port = int(server.uri.rpartition(":")[2])
    name_for(monkeypatch, NO_FAMILY, dead, found(("127.0.0.1", port)))
    begin = monotonic()
    with PieClient("ws://pie.example", connect_timeout=10) as client:
        assert ATTEMPT_DELAY <= monotonic() - begin < ATTEMPT_DELAY + 2
        client.authenticate("alice")
        assert client.ping() > 0


def test_what_is_known_is_told_when_time_is_over(monkeypatch, dead):  # noqa: F811
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        name_for(monkeypatch, NO_FAMILY, dead, found(taken.getsockname()))
        with pytest.raises(PieConnectTimeoutError, match=r"within 0\.5 s .*: before that: .*Connection refused"):
            PieClient("ws://pie.example", connect_timeout=0.5).connect()


def test_a_family_that_the_kernel_lacks_does_not_hide_the_error(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        name_for(monkeypatch, NO_FAMILY, found(taken.getsockname()))
        with pytest.raises(PieConnectionError, match="Connection refused") as caught:
            PieClient("ws://pie.example").connect()
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize(
    ("host", "looked_up", "certified"),
    [
        ("bücher.example", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("Pie.Example.", "pie.example.", "pie.example"),
    ],
)
def test_the_name_that_is_looked_up_and_certified(monkeypatch, host, looked_up, certified):
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(certified).configure_cert(server_context)
    asked: list[str | None] = []
    server_context.sni_callback = lambda tls, name, context: asked.append(name)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with LocalServer(ssl_context=server_context) as server:
        port = int(server.uri.rpartition(":")[2])
        name_for(monkeypatch, found(("127.0.0.1", port)), name=looked_up)
        with PieClient(f"wss://{host}:{port}", ssl_context=context) as client:
            client.authenticate("alice")
    assert asked == [certified]


def test_options_that_the_kernel_refuses_refuse_nothing(server, monkeypatch):
    refused = (socket.SOL_SOCKET, 9999, 1)
    with socket.socket() as sock, pytest.raises(OSError, match="."):
        sock.setsockopt(*refused)
    good = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    monkeypatch.setattr(dialer_module, "_SOCKET_OPTIONS", [refused, good])
    dialer = Dialer(monotonic() + 10)
    with dialer.dial(parse_uri(server.uri), ssl_context=None) as sock:
        assert sock.getsockopt(*good[:2]) != 0  # the ones behind it are still set


def test_a_time_limit_for_reading_that_the_kernel_refuses_refuses_nothing(server, monkeypatch):
    monkeypatch.setattr(socket, "SO_RCVTIMEO", 9999)
    with PieClient(server.uri, ping_interval=0.1) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("echo")
        for number in range(20):
            instance.send(str(number))
            assert instance.recv(timeout=10)[1] == str(number)
