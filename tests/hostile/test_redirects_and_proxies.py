"""Servers that send the client elsewhere, where it does not go; and proxies of the user's, which it takes."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager

import pytest
import trustme

from pie_sync import AuthenticationError, Event, PieClient, PieConnectionError, PieConnectTimeoutError
from pie_sync.testing import LocalServer
from tests.faults.raw_server import RawPeer, raw_server
from tests.programs import add_programs

TOKEN = "Bearer of-a-secret"

#: The host of the servers that are reached through a proxy.
NAME = "pie.example"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """pie.example is this machine, without being loopback: no proxy would be taken to that."""
    real = socket.getaddrinfo

    def look_up(host, *args, **options):
        return real("127.0.0.1" if host == NAME and "flags" not in options else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def named(uri: str) -> str:
    return uri.replace("127.0.0.1", NAME)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("scheme", ["ws", "http", None])
def test_redirects_are_not_followed(status, scheme):
    visited = threading.Event()
    with raw_server(lambda peer: visited.set()) as elsewhere:
        location = "/elsewhere" if scheme is None else elsewhere.replace("ws", scheme, 1)

        def serve(peer: RawPeer) -> None:
            requests.append(peer.socket.recv(65536))
            peer.socket.sendall(
                f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
            )

        requests: list[bytes] = []
        with raw_server(serve) as uri:
            client = PieClient(uri, headers={"Authorization": TOKEN})
            with pytest.raises(PieConnectionError, match="redirects to .*not followed") as caught:
                client.connect()
            assert location in str(caught.value)
            assert TOKEN not in str(caught.value)
    assert len(requests) == 1
    assert not visited.is_set()


class ConnectProxy:
    """An HTTP proxy that knows CONNECT and nothing else.

    Attributes:
        requests: the heads of the requests that came.
        answer: what it says to them; after a 200 it passes on what comes.
        tunnels: to which hosts.
    """

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[str] = []
        self.tunnels: list[str] = []

    def serve(self, peer: RawPeer) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = peer.socket.recv(4096)
            if not data:
                raise EOFError
            head += data
        self.requests.append(head.decode())
        # Piece by piece, as it may come.
        for begin in range(0, len(self.answer), 10):
            peer.socket.sendall(self.answer[begin : begin + 10])
        if b" 200 " not in self.answer:
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        self.tunnels.append(host)
        with socket.create_connection((host.strip("[]"), int(port))) as server:
            other = threading.Thread(target=pump, args=(server, peer.socket))
            other.start()
            pump(peer.socket, server)
            other.join()
        raise EOFError


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@contextmanager
def connect_proxy(answer: bytes = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n"):
    proxy = ConnectProxy(answer)
    with raw_server(proxy.serve) as uri:
        yield proxy, uri.replace("ws", "http", 1)


def converse(uri: str, **options) -> None:
    with PieClient(uri, **options) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("echo")
        instance.send("by way of a proxy")
        assert instance.recv(10) == (Event.Message, "by way of a proxy")


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_from_the_environment(server, monkeypatch, variable):
    with connect_proxy() as (proxy, uri):
        monkeypatch.setenv(variable, uri)
        converse(named(server.uri))
        (request,) = proxy.requests
        host = named(server.uri).removeprefix("ws://")
        assert request.startswith(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n")
        assert "Proxy-Authorization" not in request


def test_a_proxy_that_wants_a_password(server, monkeypatch):
    with connect_proxy() as (proxy, uri):
        monkeypatch.setenv("http_proxy", uri.replace("//", "//alice:p%40ss%3Aword@"))
        converse(named(server.uri))
        assert "\r\nProxy-Authorization: Basic YWxpY2U6cEBzczp3b3Jk\r\n" in proxy.requests[0]


def test_a_proxy_for_tls(monkeypatch):
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(server_context)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with LocalServer(ssl_context=server_context) as server, connect_proxy() as (proxy, uri):
        add_programs(server)
        monkeypatch.setenv("https_proxy", uri)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # for ws:// only
        converse(named(server.uri), ssl_context=context)
        assert len(proxy.requests) == 1
        with pytest.raises(PieConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            PieClient(named(server.uri)).connect()


@pytest.mark.parametrize("no_proxy", ["pie.example", "example.com,.EXAMPLE", "*", "pie.example:{port}"])
def test_exceptions_from_it(server, monkeypatch, no_proxy):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(PieConnectionError):
        PieClient(named(server.uri)).connect()
    monkeypatch.setenv("no_proxy", no_proxy.format(port=server.uri.rpartition(":")[2]))
    converse(named(server.uri))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the HTTP proxy refuses: .*407 Proxy Auth"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno!", "the HTTP proxy refuses: .*502 Bad Gateway"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "the HTTP proxy refuses: SSH"),
        (b"HTTP/1.1 200 ok\r\n" + b"X: y\r\n" * 20_000, "the HTTP proxy gives no answer"),
        (b"\r\n\r\n", "the HTTP proxy refuses"),
        (b"\xff\r\n\r\n", "the HTTP proxy refuses"),
    ],
)
def test_a_proxy_that_refuses(server, monkeypatch, answer, reason):
    with connect_proxy(answer) as (proxy, uri):
        monkeypatch.setenv("http_proxy", uri.replace("//", "//alice:secret@"))
        with pytest.raises(PieConnectionError, match=reason) as caught:
            PieClient(named(server.uri)).connect()
        assert f"127.0.0.1:{uri.rpartition(':')[2]}, from http_proxy" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert len(proxy.requests) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "pie.localhost", "[::1]"])
def test_loopback_takes_no_proxy(server, monkeypatch, host):
    """The token is sent over ws:// to this machine only, so nothing to there may leave it."""
    with connect_proxy() as (proxy, uri):
        for variable in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(variable, uri)
        client = PieClient(server.uri.replace("127.0.0.1", host), connect_timeout=10)
        try:
            with client:
                with pytest.raises(AuthenticationError):
                    client.internal_authenticate("a token that is wrong", timeout=10)
        except PieConnectionError as error:
            assert host.lower() not in ("127.0.0.1", "localhost"), error  # nobody listens at the others
        assert proxy.requests == []


def test_a_token_is_not_sent_to_a_proxy(server, monkeypatch):
    with connect_proxy() as (proxy, uri):
        monkeypatch.setenv("http_proxy", uri)
        with PieClient(named(server.uri)) as client:
            with pytest.raises(AuthenticationError, match="readable on its way"):
                client.internal_authenticate("a token")
        assert proxy.tunnels == [NAME]


def test_a_name_of_loopback_that_leads_elsewhere_is_not_followed(monkeypatch):
    """RFC 6761: whatever a name server says. It's what the confidence in such names rests on."""
    elsewhere = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))
    real = socket.getaddrinfo

    def look_up(host, *args, **options):
        return [elsewhere] if host == "pie.localhost" and "flags" not in options else real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(PieConnectionError, match=r"pie\.localhost has no loopback address"):
        PieClient("ws://pie.localhost:80").connect()


@pytest.mark.parametrize("scheme", ["https", "socks5", "socks5h", "socks4", "ftp"])
def test_a_proxy_of_another_kind_is_not_spoken_to(monkeypatch, scheme):
    with connect_proxy() as (proxy, uri):
        value = uri.replace("http", scheme, 1).replace("//", "//alice:secret@")
        monkeypatch.setenv("http_proxy", value)
        with pytest.raises(PieConnectionError, match=f"variable http_proxy: {scheme}:// is not spoken") as caught:
            PieClient("ws://pie.example:80").connect()
        assert "secret" not in f"{caught.value} {caught.value.__cause__!r}"
        assert proxy.requests == []


def test_a_proxy_without_a_scheme(server, monkeypatch):
    with connect_proxy() as (proxy, uri):
        monkeypatch.setenv("http_proxy", uri.removeprefix("http://"))
        converse(named(server.uri))
        assert proxy.tunnels == [NAME]


def test_a_proxy_that_is_not_there(server, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{port}")
    with pytest.raises(
        PieConnectionError, match=rf"HTTP proxy can't be reached \(127\.0\.0\.1:{port}, from http_proxy"
    ):
        PieClient(named(server.uri)).connect()


def test_a_proxy_that_says_nothing(server, monkeypatch):
    with raw_server(lambda peer: None) as uri:
        monkeypatch.setenv("http_proxy", uri.replace("ws", "http", 1))
        with pytest.raises(PieConnectTimeoutError, match="within 0.2 s .*the HTTP proxy does not answer"):
            PieClient(named(server.uri), connect_timeout=0.2).connect()


def test_a_busy_proxy_says_when_to_come_again(server, monkeypatch):
    with connect_proxy(b"HTTP/1.1 503 Busy\x1b[2J\r\nRetry-After: 17\r\n\r\n") as (_, uri):
        monkeypatch.setenv("http_proxy", uri)
        with pytest.raises(PieConnectionError, match=r"proxy refuses: 503 Busy\\x1b\[2J .*\(Retry-After: 17\)$"):
            PieClient(named(server.uri)).connect()
