"""TLS with both directions busy: over lines with random delays, with new keys and tickets in the middle of it."""

from __future__ import annotations

import os
import random
import socket
import ssl
import threading

import msgpack
import pytest
import trustme

from pie_sync import Event, PieClient, PieConnectionError
from pie_sync.testing import LocalServer
from tests.faults.proxy import proxy_to
from tests.faults.raw_server import RawPeer, binary_frame, raw_server
from tests.faults.threads import run_all
from tests.faults.tls_terminator import libssl, tls_terminator
from tests.programs import add_programs

#: How many connections are made, of both versions together.
CONNECTS = 300 if os.environ.get("PIE_SYNC_EXHAUSTIVE") else 40

#: How many of them are there at the same time.
AT_ONCE = 4

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with LocalServer(ssl_context=context) as server:
        add_programs(server)
        yield server


def trusting(authority: trustme.CA, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = version
    return context


def use(client: PieClient, blob_size: int, events: int) -> None:
    """Streams and uploads, both ways and all at once, and requests between them."""

    def exchange() -> None:
        blob = os.urandom(blob_size)
        instance = client.launch_instance_from_registry("blob-echo")
        instance.upload_blob(blob)
        assert list(instance.events(60)) == [(Event.Blob, blob), (Event.Completed, "")]

    def stream() -> None:
        result = client.launch_instance_from_registry("flood", [str(events)]).wait(60)
        assert result.messages == tuple(map(str, range(events)))

    def ask() -> None:
        for _ in range(20):
            assert client.ping(timeout=60) > 0

    run_all(exchange, exchange, stream, ask, limit=100)


@pytest.mark.timeout(1800 if CONNECTS > 100 else 120)
@pytest.mark.parametrize("version", VERSIONS, ids=["TLS 1.2", "TLS 1.3"])
def test_many_connections_over_a_line_with_random_delays(authority, server, version):
    chance = random.Random(version)
    numbers = iter(range(CONNECTS // 2))
    lock = threading.Lock()
    done = []

    with proxy_to(server.uri) as proxy:
        # Pieces of any size, some of them late: records come in parts, and room comes and goes.
        proxy.chunk_size = 20_000
        proxy.delay = lambda: chance.choice((0, 0, 0, 0.0005, 0.002))

        def connect_and_use() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                with PieClient(proxy.uri, ssl_context=trusting(authority, version), timeout=60) as client:
                    client.authenticate("alice")
                    use(client, blob_size=chance.randrange(1, 300_000), events=chance.randrange(500))
                done.append(number)

        run_all(*[connect_and_use] * AT_ONCE, limit=1700)
    assert len(done) == CONNECTS // 2


@pytest.mark.skipif(libssl is None, reason="needs the library of OpenSSL 3")
@pytest.mark.parametrize("version", VERSIONS, ids=["TLS 1.2", "TLS 1.3"])
def test_new_keys_and_tickets_in_the_middle_of_streams(authority, tmp_path, version):
    certificate = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with LocalServer() as server, tls_terminator(server.uri, certificate, every=5) as terminator:
        add_programs(server)
        with PieClient(terminator.uri, ssl_context=trusting(authority, version), timeout=30) as client:
            client.authenticate("alice")
            use(client, blob_size=2_000_000, events=5000)
            assert client.ping() > 0
        if version == ssl.TLSVersion.TLSv1_3:
            assert terminator.key_updates > 20
            assert terminator.tickets > 20
        else:
            assert not terminator.key_updates, "TLS 1.2 has none"


def test_what_arrived_before_a_failure_comes_first(authority):
    """The reading thread takes all records that are there at once. One that is broken must not cost the others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    events = [(Event.Message, str(number)) for number in range(5000)]

    def serve(peer: RawPeer) -> None:
        peer.socket = plain = context.wrap_socket(peer.socket, server_side=True)
        peer.authenticate()
        peer.launch()
        frames = [event_frame(data) for _, data in events]
        for begin in range(0, len(frames), 100):
            plain.sendall(b"".join(frames[begin : begin + 100]))
        with socket.socket(fileno=plain.detach()) as raw:
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that nobody has encrypted
            peer.stopped.wait(20)

    with raw_server(serve) as uri:
        with PieClient(uri.replace("ws:", "wss:"), ssl_context=trusting(authority, VERSIONS[1])) as client:
            client.authenticate("alice")
            instance = client.launch_instance_from_registry("x")
            received = []
            with pytest.raises(PieConnectionError):
                for event in instance.events(30):
                    received.append(event)
            assert received == events


def event_frame(text: str) -> bytes:
    message = {"type": "instance_event", "instance_id": "instance-1", "event": 0, "message": text}
    return binary_frame(msgpack.packb(message))
