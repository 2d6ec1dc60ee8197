"""What a client is made with: mistakes are told by the constructor, before anything is sent."""

from __future__ import annotations

import pytest

from pie_sync import PieClient
from pie_sync._connection.validation import is_confidential


@pytest.mark.parametrize(
    "uri",
    [
        "ws://host:port",
        "ws://host:99999",
        "ws://host:0",
        "ws://ho st",
        "ws://h/a\nb",
        "ws://a..b",
        f"ws://{'x' * 64}.org",
    ],
)
def test_a_uri_that_can_never_work(uri):
    with pytest.raises(ValueError, match="^server_uri "):
        PieClient(uri)


def test_a_uri_is_kept_as_it_was_given():
    assert PieClient("ws://bücher.example/a b").server_uri == "ws://bücher.example/a b"


@pytest.mark.parametrize(
    "uri", ["wss://host", "ws://127.0.0.1:8080", "ws://[::1]", "ws://LOCALHOST.", "ws://pie.localhost"]
)
def test_confidential(uri):
    assert is_confidential(uri)


@pytest.mark.parametrize(
    "uri", ["ws://host", "ws://10.0.0.1", "ws://127.1", "ws://0.0.0.0", "ws://localhost.example"]
)
def test_not_confidential(uri):
    assert not is_confidential(uri)


@pytest.mark.parametrize(
    "name", ["", "a b", "a:b", "ä", "a\n", "Host", "UPGRADE", "Connection", "Sec-WebSocket-Key"]
)
def test_names_that_are_no_headers_or_the_handshakes_own(name):
    with pytest.raises(ValueError, match="header"):
        PieClient("ws://host", headers={name: "value"})
