"""Happy Eyeballs: with real sockets, on addresses that answer, refuse, or lead nowhere."""

from __future__ import annotations

import errno
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from time import monotonic

import pytest

from pie_sync._transport.dialer import Dialer
from pie_sync._transport.racing import ATTEMPT_DELAY, connect_first, interleave
from pie_sync._transport.uri import parse_uri

LIMIT = 10.0


def found(address: tuple, family: int = socket.AF_INET) -> tuple:
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)


@pytest.fixture
def good():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield found(listener.getsockname())


@pytest.fixture
def refusing():
    """A port that is taken, and at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield found(taken.getsockname())


@contextmanager
def full_listener():
    """A listening socket whose queue is full, so that further attempts are not answered."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(10):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener


@pytest.fixture
def dead():
    """An address that does not answer."""
    with full_listener() as listener:
        yield found(listener.getsockname())


#: A family that no kernel has.
NO_FAMILY = found(("an address",), family=99)

#: Multicast: TCP does not go there.
UNREACHABLE = found(("224.0.0.1", 80))


def connect(*addresses: tuple, timeout: float = LIMIT) -> None:
    """Connect where that must fail; leave nothing open."""
    sockets: list[socket.socket] = []
    try:
        connect_first(list(addresses), monotonic() + timeout, sockets, lambda: None)
    finally:
        for sock in sockets:
            sock.close()


def peer_of(*addresses: tuple) -> tuple[tuple, float]:
    """Connect; return to whom, and how many seconds it took."""
    sockets: list[socket.socket] = []
    begin = monotonic()
    with connect_first(list(addresses), begin + LIMIT, sockets, lambda: None) as winner:
        return winner.getpeername(), monotonic() - begin


def test_the_first_one_is_taken_if_it_answers(good):
    peer, took = peer_of(good, good)
    assert peer == good[4]
    assert took < ATTEMPT_DELAY


def test_a_dead_one_costs_a_quarter_of_a_second(dead, good):
    peer, took = peer_of(dead, good)
    assert peer == good[4]
    assert ATTEMPT_DELAY <= took < ATTEMPT_DELAY + 1


def test_one_that_refuses_costs_nothing(refusing, good):
    peer, took = peer_of(refusing, NO_FAMILY, good)
    assert peer == good[4]
    assert took < ATTEMPT_DELAY


def test_one_that_answers_late_may_still_win(dead):
    """An attempt goes on while others are made."""
    with full_listener() as listener:
        late = found(listener.getsockname())
        accepted: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    accepted.append(listener.accept()[0])
            except OSError:
                pass

        acceptor = threading.Thread(target=accept)
        sockets: list[socket.socket] = []

        def check() -> None:
            if len(sockets) == 2 and acceptor.ident is None:
                acceptor.start()

        winner = connect_first([late, dead], monotonic() + LIMIT, sockets, check)
        assert winner.getpeername() == late[4]
        assert sockets == [winner]
        winner.close()
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        for sock in accepted:
            sock.close()


def test_what_failed_before_is_told_when_time_is_over(dead, refusing):
    with pytest.raises(socket.timeout, match=r"before that: .*Connection refused \(127\.0\.0\.1\)"):
        connect(refusing, dead, timeout=0.2)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_error_that_says_most_is_told(refusing, order):
    addresses = [NO_FAMILY, UNREACHABLE, refusing]
    with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1"):
        connect(*(addresses[index] for index in order))


def test_a_family_that_the_kernel_lacks_hides_nothing():
    with pytest.raises(OSError, match="Errno") as caught:
        connect(NO_FAMILY, UNREACHABLE)
    assert caught.value.errno == errno.ENETUNREACH
    with pytest.raises(OSError, match="Errno") as caught:
        connect(NO_FAMILY)
    assert caught.value.errno == errno.EAFNOSUPPORT


def test_the_losers_are_closed(dead, good):
    sockets: list[socket.socket] = []
    seen: set[socket.socket] = set()
    winner = connect_first([dead, good], monotonic() + LIMIT, sockets, lambda: seen.update(sockets))
    assert len(seen) == 2
    assert [sock.fileno() for sock in seen - {winner}] == [-1]
    winner.close()


def test_the_limit_is_for_all_of_them(dead):
    begin = monotonic()
    with pytest.raises(socket.timeout):
        connect(dead, dead, dead, timeout=0.6)
    assert 0.6 <= monotonic() - begin < 1.6


@pytest.mark.parametrize("count", [1, 2])
def test_abort_ends_it_at_once(dead, monkeypatch, count):
    begun = threading.Event()
    real = socket.getaddrinfo

    def look_up(host, *args, **options):
        begun.set()
        return [dead] * count if host == "pie.example" else real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    dialer = Dialer(monotonic() + 30)

    def abort() -> None:
        begun.wait()
        while len(dialer._sockets) < count:  # both attempts are under way
            time.sleep(0.001)
        dialer.abort()

    thread = threading.Thread(target=abort)
    thread.start()
    begin = monotonic()
    with pytest.raises(ConnectionAbortedError, match="given up"):
        dialer.dial(parse_uri("ws://pie.example"), ssl_context=None)
    assert monotonic() - begin < 1 + count * ATTEMPT_DELAY
    thread.join()
    dialer.close()


def test_families_take_turns():
    six = [found((f"::{n}",), socket.AF_INET6) for n in range(3)]
    four = [found((f"10.0.0.{n}",)) for n in range(2)]
    assert interleave([*six, *four]) == [six[0], four[0], six[1], four[1], six[2]]
    assert interleave([]) == []
