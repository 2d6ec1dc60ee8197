"""Which proxy the environment names for which server. No network here."""

from __future__ import annotations

import pytest

from pie_sync._transport.proxy import Proxy, proxy_for
from pie_sync._transport.uri import parse_uri

PROXY = "http://proxy.example:3128"


def way_to(uri: str, **environ: str) -> Proxy | None:
    return proxy_for(parse_uri(uri), environ)


@pytest.mark.parametrize(
    ("uri", "environ", "port"),
    [
        ("ws://pie.example", {}, None),
        ("ws://pie.example", {"http_proxy": "p:1", "https_proxy": "p:2"}, 1),
        ("wss://pie.example", {"http_proxy": "p:1", "https_proxy": "p:2"}, 2),
        ("wss://pie.example", {"http_proxy": "p:1"}, None),
        ("ws://pie.example", {"HTTP_PROXY": "p:1"}, 1),
        ("ws://pie.example", {"HTTP_PROXY": "p:1", "http_proxy": "p:2"}, 2),
        ("ws://pie.example", {"HTTP_PROXY": "p:1", "http_proxy": ""}, None),
        ("ws://pie.example", {"HTTP_PROXY": "p:1", "REQUEST_METHOD": "GET"}, None),
        ("wss://pie.example", {"HTTPS_PROXY": "p:1", "REQUEST_METHOD": "GET"}, 1),
        ("ws://pie.example", {"all_proxy": "p:1", "ALL_PROXY": "p:1"}, None),
    ],
)
def test_which_variable_counts(uri, environ, port):
    proxy = way_to(uri, **environ)
    assert (None if proxy is None else proxy.port) == port


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("http://p:3128", Proxy("p", 3128, None, "http_proxy")),
        (" HTTP://P:3128/ ", Proxy("p", 3128, None, "http_proxy")),
        ("p:3128", Proxy("p", 3128, None, "http_proxy")),
        ("10.0.0.1", Proxy("10.0.0.1", 80, None, "http_proxy")),
        ("[::1]:3128", Proxy("::1", 3128, None, "http_proxy")),
        ("http://bücher.example", Proxy("xn--bcher-kva.example", 80, None, "http_proxy")),
        ("alice:p%40ss@p:1", Proxy("p", 1, ("alice", "p@ss"), "http_proxy")),
        ("http://alice@p:1", Proxy("p", 1, ("alice", ""), "http_proxy")),
    ],
)
def test_how_it_is_written(value, proxy):
    assert way_to("ws://pie.example", http_proxy=value) == proxy


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("https://a:secret@p:1", "https:// is not spoken"),
        ("socks5://a:secret@p:1", "socks5:// is not spoken"),
        ("http://a:secret@", "no host"),
        ("http://a:secret@p:port", "[Pp]ort"),
        ("http://a:secret@p:99999", "[Pp]ort"),
        ("http://a:secret@p:0", "port"),
        ("http://a:secret@p p:1", "names consist"),
        ("http://a:secret@p\r\nX: y:1", ""),
    ],
)
def test_what_is_not_spoken_is_an_error_without_the_password(value, reason):
    with pytest.raises(ValueError, match=f"environment variable http_proxy: .*{reason}") as caught:
        way_to("ws://pie.example", http_proxy=value)
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_login_is_not_in_its_repr():
    assert "secret" not in repr(way_to("ws://pie.example", http_proxy="alice:secret@p:1"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost", "pie.localhost", "LOCALHOST."])
def test_loopback_takes_none_whatever_the_variables_say(host):
    assert way_to(f"ws://{host}:80", http_proxy=PROXY) is None
    assert way_to(f"ws://{host}:80", http_proxy="socks5://not.spoken") is None


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("pie.ample.org", ".ample.org"),
        ("ample.org", ".ample.org"),
        ("pie.ample.org", "ample.org"),
        ("ample.org", "ample.org"),
        ("a.b.ample.org", "x, ample.org ,y"),
        ("a.b.ample.org", "x ample.org\ty"),
        ("Pie.Ample.org", "AMPLE.ORG"),
        ("ample.org.", "ample.org"),
        ("ample.org", "ample.org."),
        ("bücher.example", "Bücher.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("ample.org", "*"),
        ("ample.org", "x,*"),
        ("10.1.2.3", "*"),
        ("ample.org:8080", "ample.org:8080"),
        ("ample.org", "ample.org:80"),
        ("pie.ample.org:8080", ".ample.org:8080"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3:8080", "10.1.2.3:8080"),
        ("10.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.1/8"),
        ("[fd00::1]", "fd00::1"),
        ("[fd00::1]", "[fd00:0::1]"),
        ("[fd00::1]:8080", "[fd00::1]:8080"),
        ("[fd00::1]", "fd00::/8"),
    ],
)
def test_exceptions(host, no_proxy):
    assert way_to(f"ws://{host}", http_proxy=PROXY, no_proxy=no_proxy) is None
    assert way_to(f"ws://{host}", http_proxy=PROXY, NO_PROXY=no_proxy) is None
    assert way_to(f"ws://{host}", http_proxy=PROXY, NO_PROXY=no_proxy, no_proxy="") is not None


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("notexample.org", ".example.org"),
        ("notexample.org", "example.org"),
        ("example.org.evil", "example.org"),
        ("example.org", "www.example.org"),
        ("example.org", "org.example"),
        ("example.org", ", ,"),
        ("example.org", "."),
        ("example.org", ":80"),
        ("example.org:8080", "example.org:80"),
        ("example.org", "10.0.0.0/8"),
        ("11.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "2.3"),
        ("10.1.2.3", "10.1.2.3:8080"),
        ("[fd00::1]", "fd00::2"),
        ("[fd00::1]", "10.0.0.0/8,::/zz"),
    ],
)
def test_no_exceptions(host, no_proxy):
    assert way_to(f"ws://{host}", http_proxy=PROXY, no_proxy=no_proxy) is not None
