"""What the system knows of the other end. Hosts that vanish are in tests/faults/test_half_open.py."""

from __future__ import annotations

import socket
import ssl
import sys

import pytest

from pie_sync._transport.keep_alive import KEEP_ALIVE_OPTIONS, unanswered_for
from pie_sync._transport.tls import TlsSocket


@pytest.fixture
def ends():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        yield near, far


def test_a_peer_that_is_there_owes_nothing(ends):
    near, far = ends
    assert unanswered_for(near) == 0.0
    near.send(b"hello")
    assert unanswered_for(near) == 0.0
    assert far.recv(10) == b"hello"
    assert unanswered_for(near) == 0.0
    tls = TlsSocket(near, ssl.create_default_context(), "localhost")
    assert unanswered_for(tls) == 0.0


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_what_is_no_tcp_tells_nothing(kind):
    near, far = socket.socketpair(type=kind)
    with near, far:
        assert unanswered_for(near) == 0.0


#: Of struct tcp_info: unanswered probes, unacknowledged segments, ms since the last one was sent and acknowledged.
CASES = {
    "all is acknowledged": (0, 0, 50_000, 49_900, 0.0),
    "the first answer is on its way": (0, 1, 10, 50_000, 0.0),
    "a retransmission was not answered": (0, 1, 15_000, 41_000, 41.0),
    "each retransmission was answered, the window is closed": (0, 1, 41_000, 40_900, 0.0),
    "a probe of the window is on its way": (1, 0, 90_000, 51_000, 0.0),
    "probes of the window were not answered": (2, 0, 90_000, 60_000, 60.0),
}


@pytest.mark.parametrize("case", CASES)
def test_what_counts_as_unanswered(case):
    probes, unacknowledged, last_sent, last_acknowledged, expected = CASES[case]

    class Socket:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
            info = bytearray(size)
            info[3] = probes
            for offset, value in ((24, unacknowledged), (44, last_sent), (56, last_acknowledged)):
                info[offset : offset + 4] = value.to_bytes(4, sys.byteorder)
            return bytes(info)

    assert unanswered_for(Socket()) == expected


def test_a_kernel_takes_all_options(ends):
    for level, option, value in KEEP_ALIVE_OPTIONS:
        ends[0].setsockopt(level, option, value)
        assert ends[0].getsockopt(level, option) == value
