"""A whole session through a connection that is cut after byte N, for every N, in both directions."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from pie_sync import Event, PieClient, PieConnectionError
from pie_sync.testing import LocalServer
from tests.faults.proxy import DOWN, UP, proxy_to
from tests.faults.threads import wait_until
from tests.programs import HELLO

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Cut after every byte there is, instead of those around the borders of frames and every 17th.
EXHAUSTIVE = bool(os.environ.get("PIE_SYNC_EXHAUSTIVE"))

EVENTS = 50
BLOB = bytes(range(256))


@pytest.fixture
def server():
    with LocalServer() as server:

        @server.program("events")
        def events(context):
            for number in range(EVENTS):
                context.send(str(number))
            context.send_blob(context.receive_blob())
            context.receive()

        yield server


class Session:
    """One session, as far as it gets.

    Attributes:
        received: the events that it received.
        instance_id: the instance that it launched, once that is known.
        step: what it was about to do in the end.
    """

    def __init__(self, uri: str) -> None:
        self.received: list[tuple[Event, Any]] = []
        self.instance_id: str | None = None
        self.step = "connect"
        self.client = PieClient(uri, timeout=10, connect_timeout=10)
        self.pending: list[Any] = []

    def run(self) -> None:
        try:
            with self.client as client:
                internals = client._manager.connection.session
                self._use(client)
        except PieConnectionError:
            pass
        else:
            self.step = "done"
        if self.step != "connect":
            self.pending = [
                internals.router.pending,
                internals.router.pending._abandoned,
                internals.router._queues,
            ]

    def _use(self, client: PieClient) -> None:
        self.step = "authenticate"
        client.authenticate("alice")
        self.step = "upload"
        client.upload_program(HELLO)
        self.step = "launch"
        instance = client.launch_instance_from_registry("events")
        self.instance_id = instance.id
        try:
            self.step = "receive"
            for _ in range(EVENTS):
                self.received.append(instance.recv(10))
            self.step = "blob"
            instance.upload_blob(BLOB)
            self.received.append(instance.recv(10))
            self.step = "terminate"
            instance.terminate()
        finally:
            # Everything that had arrived whole comes first, then the error, if there's one.
            self.received.extend(instance.events(10))


def test_the_session_when_nothing_goes_wrong(server):
    session = Session(server.uri)
    session.run()
    assert session.step == "done"
    assert session.received == [
        *((Event.Message, str(number)) for number in range(EVENTS)),
        (Event.Blob, BLOB),
        (Event.Aborted, "Signal termination"),
    ]


@pytest.mark.timeout(1200 if EXHAUSTIVE else 120)
@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("direction", [UP, DOWN])
def test_cut_after_byte_n(server, direction, how):
    with proxy_to(server.uri, record=True) as proxy:
        Session(proxy.uri).run()
        cuts = positions(bytes(proxy.forwarded[direction]))
        if not EXHAUSTIVE:
            cuts = cuts[how == "RST" :: 2]
        proxy.reset = how == "RST"
        files = open_files()
        steps: Counter[str] = Counter()
        for cut in cuts:
            proxy.cut_after = {direction: cut}
            for recorded in proxy.forwarded.values():
                recorded.clear()
            session = Session(proxy.uri)
            begin = time.monotonic()
            session.run()
            where = f"cut after byte {cut} {direction}, during {session.step}"
            assert time.monotonic() - begin < 5, where
            assert session.client.closed, where
            assert not any(session.pending), where
            assert_received_what_arrived(session, bytes(proxy.forwarded[DOWN]), where)
            steps[session.step] += 1
        everywhere = {"connect", "authenticate", "upload", "launch", "receive", "blob", "terminate"}
        if direction == UP:
            everywhere.remove("receive")  # nothing goes up meanwhile
        assert everywhere <= set(steps), "the cuts were not everywhere"
        wait_until(lambda: open_files() <= files)
        assert not [thread for thread in threading.enumerate() if "pie-sync reader" in thread.name]


def assert_received_what_arrived(session: Session, stream: bytes, where: str) -> None:
    arrived = [*events_in(stream, session.instance_id)]
    if session.instance_id is None:
        assert not session.received, where
    else:
        assert session.received == arrived, where


def positions(stream: bytes) -> list[int]:
    """After which bytes to cut."""
    if EXHAUSTIVE:
        return list(range(len(stream)))
    borders = [border for border, _ in frames(stream)]
    near = {border + offset for border in borders for offset in (-3, -2, -1, 0, 1, 2, 3)}
    return sorted(number for number in near | set(range(0, len(stream), 17)) if 0 <= number < len(stream))


def frames(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Take a stream of bytes apart: (where each frame ends, its payload as it is), the whole ones only."""
    end = stream.find(b"\r\n\r\n") + 4
    if end < 4:
        return
    yield end, b""
    while end + 2 <= len(stream):
        masked, length, begin = stream[end + 1] & 128, stream[end + 1] & 127, end + 2
        if length == 126:
            length, begin = int.from_bytes(stream[begin : begin + 2], "big"), begin + 2
        begin += 4 if masked else 0
        end = begin + length
        if end > len(stream):
            return
        yield end, stream[begin:end]


def events_in(stream: bytes, instance_id: str | None) -> Iterator[tuple[Event, Any]]:
    """What an instance said, by the bytes that came from its server."""
    for _, payload in frames(stream):
        if instance_id is None or instance_id.encode() not in payload:
            continue
        message = msgpack.unpackb(payload)
        if message["type"] == "instance_event":
            yield Event(message["event"]), message["message"]
        elif message["type"] == "download_blob":
            yield Event.Blob, message["chunk_data"]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
