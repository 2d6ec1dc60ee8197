"""How threads wait for bytes: in the system's recv() where that can be, else with poll(), else with select()."""

import socket
import threading
import time

import pytest

from pie_sync._transport import byte_stream
from pie_sync._transport.byte_stream import ByteStream, WouldBlock
from tests.faults.threads import wait_until_it_waits


@pytest.fixture(params=["in recv", "with poll", "with select"])
def ends(request, monkeypatch):
    """A stream and the socket at its other end."""
    monkeypatch.setattr(
        byte_stream, "_CAN_WAIT_IN_RECV", request.param == "in recv" and byte_stream._CAN_WAIT_IN_RECV
    )
    if request.param == "with select":
        monkeypatch.setattr(byte_stream, "_HAS_POLL", False)
    near, far = socket.socketpair()
    with near, far:
        yield ByteStream(near), far


def test_waits_for_as_long_as_it_is_told(ends):
    stream, far = ends
    buffer = memoryview(bytearray(10))
    for timeout in (0.2, 0.05, 0.199, 0.0, 0.3):
        begin = time.monotonic()
        with pytest.raises(WouldBlock):
            stream.recv_waiting(buffer, timeout)
        assert timeout - 0.001 <= time.monotonic() - begin < timeout + 5
        far.send(b"abc")
        assert stream.recv_waiting(buffer, timeout or None) == 3
        assert bytes(buffer[:3]) == b"abc"


def test_never_waits_unless_told(ends):
    stream, _ = ends
    with pytest.raises(WouldBlock):
        stream.recv_into(memoryview(bytearray(10)))
    data = memoryview(bytes(2**16))
    with pytest.raises(WouldBlock):
        while True:
            stream.send(data)
    begin = time.monotonic()
    assert stream.send_all(data, begin + 0.1)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("timeout", [None, 30.0])
@pytest.mark.parametrize("what", ["data", "their end", "shut_down"])
def test_what_ends_the_wait(ends, timeout, what):
    stream, far = ends
    buffer = memoryview(bytearray(10))
    counts = []
    reader = threading.Thread(target=lambda: counts.append(stream.recv_waiting(buffer, timeout)))
    reader.start()
    wait_until_it_waits(reader, "recv_waiting")
    {
        "data": lambda: far.send(b"abc"),
        "their end": lambda: far.shutdown(socket.SHUT_RDWR),
        "shut_down": stream.shut_down,
    }[what]()
    reader.join(10)
    assert counts == [3 if what == "data" else 0]


def test_waits_for_room(ends):
    stream, far = ends
    data = memoryview(bytes(2**16))
    with pytest.raises(WouldBlock):
        while True:
            stream.send(data)
    begin = time.monotonic()
    stream.wait(read=True, write=True, timeout=0.1)
    assert 0.09 < time.monotonic() - begin < 5
    reader = threading.Timer(0.1, far.recv, (2**20,))
    reader.start()
    assert not stream.send_all(data[:1], begin + 30)
    reader.join()
    assert stream.last_taken > begin


class Asked:
    """A socket, and whether each of its recv_into() was one that may wait."""

    def __init__(self, sock):
        self._socket = sock
        self.waiting = []

    def recv_into(self, buffer, size=0, flags=0):
        self.waiting.append(not flags & socket.MSG_DONTWAIT)
        return self._socket.recv_into(buffer, size, flags)

    def __getattr__(self, name):
        return getattr(self._socket, name)


@pytest.mark.skipif(
    not byte_stream._CAN_WAIT_IN_RECV, reason="only Linux lets each recv() say whether it may wait"
)
@pytest.mark.parametrize("processors", [{0}, {0, 1}])
def test_spins_before_it_waits_where_that_leaves_a_processor_to_others(processors, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: processors)
    near, far = socket.socketpair()
    with near, far:
        stream = ByteStream(near)
        asked = stream._blocking = Asked(near)
        buffer = memoryview(bytearray(10))

        with pytest.raises(WouldBlock):
            stream.recv_waiting(buffer, 0.1, spin=0.05)
        *before, last = asked.waiting
        assert last, "it must not burn the processor until the time is over"
        assert bool(before) == (len(processors) > 1)
        assert not any(before)

        asked.waiting.clear()
        with pytest.raises(WouldBlock):
            stream.recv_waiting(buffer, 0.1)
        assert asked.waiting == [True]

        asked.waiting.clear()
        far.send(b"abc")
        assert stream.recv_waiting(buffer, None, spin=60) == 3
        assert asked.waiting == [len(processors) == 1]


def test_acknowledging_at_once_is_no_error_where_it_can_t_be(ends):
    stream, far = ends
    stream.acknowledge_at_once()  # not TCP
    far.send(b"abc")
    assert stream.recv_waiting(memoryview(bytearray(10)), 10) == 3
    far.close()
    stream.acknowledge_at_once()
