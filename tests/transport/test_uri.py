"""What URIs say. No network here."""

from __future__ import annotations

import pytest

from pie_sync._transport.uri import Address, ascii_host, is_loopback, parse_uri


@pytest.mark.parametrize(
    ("uri", "address", "host_header"),
    [
        ("ws://host", Address("host", 80, "/", False), "host"),
        ("WSS://Host.Example", Address("host.example", 443, "/", True), "host.example"),
        ("ws://host:80/", Address("host", 80, "/", False), "host"),
        ("ws://host:443", Address("host", 443, "/", False), "host:443"),
        ("wss://host:80", Address("host", 80, "/", True), "host:80"),
        ("ws://h_1.internal.:8080/v1/ws", Address("h_1.internal.", 8080, "/v1/ws", False), "h_1.internal.:8080"),
        ("ws://[::1]:8080", Address("::1", 8080, "/", False), "[::1]:8080"),
        ("ws://[fe80::1%25eth0]", Address("fe80::1%eth0", 80, "/", False), "[fe80::1]"),
        ("ws://bücher.example", Address("xn--bcher-kva.example", 80, "/", False), "xn--bcher-kva.example"),
        ("ws://BÜCHER\u3002example", Address("xn--bcher-kva.example", 80, "/", False), "xn--bcher-kva.example"),
        ("ws://\uff11\uff12\uff17.0.0.1", Address("127.0.0.1", 80, "/", False), "127.0.0.1"),
        ("ws://host/a b", Address("host", 80, "/a%20b", False), "host"),
        ("ws://host/ä%20;b?q=ö x;#part", Address("host", 80, "/%C3%A4%20%3Bb?q=%C3%B6%20x;", False), "host"),
        ("ws://host?q", Address("host", 80, "/?q", False), "host"),
    ],
)
def test_what_it_says(uri, address, host_header):
    assert parse_uri(uri) == address
    assert address.host_header == host_header


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("host:80", "must look like ws://"),
        ("http://host", "must look like ws://"),
        ("ws://", "must look like ws://"),
        ("ws:///path", "must look like ws://"),
        ("ws://[::1", "must look like ws://"),
        ("ws://[1.2.3.4]:80", "(must look|no usable host)"),
        ("ws://[::zz]", "(must look|no usable host)"),
        ("ws://[fe80::1%25e th]", "no usable host"),
        ("ws://host:port", "must have a port"),
        ("ws://host:99999", "must have a port"),
        ("ws://host:0", "must have a port"),
        ("ws://host:-1", "must have a port"),
        ("ws://ho st", "no usable host"),
        ("ws://ho%73t", "no usable host"),
        ("ws://ho..st", "no usable host"),
        ("ws://.host", "no usable host"),
        ("ws://-host", "no usable host"),
        (f"ws://{'h' * 64}", "no usable host"),
        (f"ws://{'ü' * 64}", "no usable host"),
        (f"ws://{'h.' * 130}", "no usable host"),
        ("ws://straße.example", "versions of IDNA differ"),
        ("ws://host/a\nb", "control characters"),
        ("ws://ho\tst/", "control characters"),
        ("ws://host/\x7f", "control characters"),
        ("ws://host/\x85", "control characters"),
    ],
)
def test_what_can_never_work(uri, reason):
    with pytest.raises(ValueError, match=reason):
        parse_uri(uri)


@pytest.mark.parametrize(
    "uri", ["ws://a:secret@host", "http://a:secret@host", "ws://a:secret@[host", "ws://a:secret@h:x"]
)
def test_a_password_is_refused_and_not_shown(uri):
    with pytest.raises(ValueError, match="must") as caught:
        parse_uri(uri)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.3.4", "::1", "localhost", "localhost.", "pie.localhost"])
def test_loopback(host):
    assert is_loopback(ascii_host(host))


@pytest.mark.parametrize(
    "host", ["128.0.0.1", "0.0.0.0", "::", "::2", "localhost.example", "notlocalhost", "127.0.0.1.example", "host"]
)
def test_not_loopback(host):
    assert not is_loopback(ascii_host(host))
