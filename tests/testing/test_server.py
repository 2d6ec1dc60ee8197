"""Starting, closing, dropping connections, clients that don't read, and TLS."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pie_sync.testing import LocalServer, ProgramContext

from . import programs
from .conftest import Connect
from .raw import COMPLETED, PATIENCE, ClosedError, RawClient

CLOSE_LIMIT = 6.0  # seconds: what close() promises, doubled for a busy machine
SENT_LIMIT = 40_000  # kilobytes: more than the sockets' buffers and the server's queue hold


def test_the_uri_tells_where_the_server_listens() -> None:
    with LocalServer() as server:
        assert server.uri == f"ws://127.0.0.1:{server.port}"
        with RawClient(server.uri) as client:
            client.assert_unanswered()


def test_before_the_start_there_is_no_uri() -> None:
    server = LocalServer()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.uri
    server.close()


def test_start_and_close_may_be_called_again() -> None:
    server = LocalServer()
    server.start()
    port = server.port
    server.start()
    assert server.port == port
    server.close()
    server.close()
    with pytest.raises(RuntimeError, match="closed"):
        server.start()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_new_server_can_take_the_port_at_once() -> None:
    with LocalServer() as server:
        port = server.port
        client = RawClient(server.uri)
    with LocalServer(port=port) as server:
        assert server.port == port
        with RawClient(server.uri) as again:
            again.assert_unanswered()
        with pytest.raises(OSError):  # noqa: PT011 - the number differs between systems
            LocalServer(port=port).start()
    client.close()


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="hash, name"):
        LocalServer(variant="number")


def test_close_ends_connections_instances_and_threads(connect: Connect) -> None:
    before = set(threading.enumerate())
    ended = threading.Event()
    with LocalServer() as server:

        @server.program("waiting")
        def waiting(ctx: ProgramContext) -> None:
            try:
                ctx.receive()
            finally:
                ended.set()

        client = connect(to=server)
        client.launch("waiting")
        client.launch("waiting", detached=True)
        for wasm in (programs.ENDLESS_LOOP, programs.ECHO, programs.sleep(3600 * 10**9)):
            client.launch_hash(client.upload_program(wasm)["result"], detached=True)
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < CLOSE_LIMIT
    assert set(threading.enumerate()) <= before
    assert ended.is_set()
    with pytest.raises(ClosedError):
        client.receive()


def test_close_does_not_wait_for_a_client_that_never_shook_hands() -> None:
    before = set(threading.enumerate())
    with LocalServer() as server:
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address) as silent, socket.create_connection(address) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\n")
            with RawClient(server.uri):  # accepted after them
                started = time.monotonic()
                server.close()
                assert time.monotonic() - started < CLOSE_LIMIT
            assert set(threading.enumerate()) <= before
            assert silent.recv(1) == b""


def test_close_does_not_wait_for_a_program_that_does_not_notice(connect: Connect) -> None:
    go, ended = threading.Event(), threading.Event()
    with LocalServer() as server:

        @server.program("deaf")
        def deaf(ctx: ProgramContext) -> None:
            try:
                assert go.wait(PATIENCE)
                ctx.send("too late")
            finally:
                ended.set()

        connect(to=server).launch("deaf")
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < CLOSE_LIMIT
    go.set()
    assert ended.wait(PATIENCE)


def test_a_program_may_close_its_server(connect: Connect) -> None:
    with LocalServer() as server:
        closed = threading.Event()

        @server.program("closer")
        def closer(ctx: ProgramContext) -> None:
            server.close()
            closed.set()

        # The answer to the launch may be lost with the connection.
        connect(to=server).send(
            "launch_instance_from_registry", corr_id=5, inferlet="closer", arguments=[], detached=False
        )
        assert closed.wait(PATIENCE)


def flood(server: LocalServer) -> threading.Event:
    """Register a program that sends messages without an end; the event is set at its end."""
    ended = threading.Event()

    @server.program("flood")
    def flood(ctx: ProgramContext) -> None:
        try:
            for number in itertools.count():
                ctx.send(f"{number} " + "x" * 1000)
        finally:
            ended.set()

    return ended


def wait_until_it_blocks(sent: list[int]) -> None:
    """Wait until a program no longer gets on (the same count, half a second later) or is past all bounds."""
    before = -1
    while before < sent[0] < SENT_LIMIT:
        before = sent[0]
        threading.Event().wait(0.5)


def test_a_client_that_does_not_read_stops_only_its_own_programs(
    server: LocalServer, connect: Connect, repeat: str
) -> None:
    sent, ended = [0], threading.Event()

    @server.program("counted-flood")
    def counted(ctx: ProgramContext) -> None:
        try:
            while True:
                ctx.send("x" * 1000)
                sent[0] += 1
        finally:
            ended.set()

    stalled, reader = connect(), connect()
    instance_id = stalled.launch("counted-flood")
    wait_until_it_blocks(sent)
    assert sent[0] < SENT_LIMIT

    echo = reader.launch(repeat)
    reader.signal(echo, "still served")
    assert reader.receive()["message"] == "still served"
    assert reader.statuses()[instance_id] == "Attached"
    # The blocked program notices, although nothing can be sent.
    assert reader.terminate(instance_id)[0]
    assert ended.wait(PATIENCE)


def test_a_client_that_does_not_read_does_not_delay_the_servers_end(connect: Connect) -> None:
    with LocalServer() as server:
        ended = flood(server)
        client = connect(to=server)
        client.launch("flood")
        client.launch("flood")
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < CLOSE_LIMIT
        assert ended.is_set()


def numbers_until_closed(client: RawClient) -> list[int]:
    numbers = []
    try:
        while True:
            numbers.append(int(client.receive()["message"].split()[0]))
    except ClosedError:
        return numbers


def test_dropping_connections_detaches_and_loses_nothing(server: LocalServer, connect: Connect) -> None:
    @server.program("numbers")
    def numbers(ctx: ProgramContext) -> None:
        for number in range(20_000):
            ctx.send(f"{number} " + "x" * 1000)
        ctx.receive()

    client = connect()
    instance_id = client.launch("numbers")
    received = [int(client.receive()["message"].split()[0])]
    for _ in range(4):
        dropper = threading.Thread(target=server.drop_connections)
        dropper.start()
        received += numbers_until_closed(client)
        dropper.join()
        client = connect()
        assert client.statuses() == {instance_id: "Detached"}
        assert client.attach(instance_id) == (True, "Instance attached")
    while len(received) < 20_000:
        received.append(int(client.receive()["message"].split()[0]))
    assert received == list(range(20_000))


def test_an_end_that_could_not_be_sent_is_kept(server: LocalServer, connect: Connect) -> None:
    @server.program("blocked")
    def blocked(ctx: ProgramContext) -> str:
        ctx.send_blob(bytes(64 * 1024 * 1024))  # more than a client that does not read can take
        ctx.send("after the blob")
        return "end"

    stalled, other = connect(), connect()
    instance_id = stalled.launch("blocked")
    while other.statuses():
        pass  # the server has its end, and forgets an attached instance then
    server.drop_connections()
    client = connect()
    assert client.statuses() == {instance_id: "Finished"}
    assert client.attach(instance_id) == (True, "Instance attached")
    assert list(client.events(instance_id)) == [(0, "after the blob"), (COMPLETED, "end")]
    assert client.statuses() == {}


def test_a_dropped_client_sees_no_farewell(server: LocalServer, client: RawClient) -> None:
    server.drop_connections()
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        client.socket.recv_data_frame(control_frame=True)


def test_a_client_that_closes_gets_the_close_frame_back(server: LocalServer, client: RawClient) -> None:
    client.socket.send_close(1000)
    opcode, frame = client.socket.recv_data_frame(control_frame=True)
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    assert frame.data[:2] == (1000).to_bytes(2, "big")


def test_websocket_pings_are_answered(client: RawClient) -> None:
    client.socket.ping("are you there")
    opcode, frame = client.socket.recv_data_frame(control_frame=True)
    assert (opcode, frame.data) == (websocket.ABNF.OPCODE_PONG, b"are you there")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def tls_server(request: pytest.FixtureRequest, certificate: Path) -> Iterator[LocalServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[request.param]
    with LocalServer(ssl_context=context) as server:
        yield server


def test_tls_with_traffic_in_both_directions_at_once(
    tls_server: LocalServer, certificate: Path, connect: Connect
) -> None:
    @tls_server.program("both-ways")
    def both_ways(ctx: ProgramContext) -> str:
        for number in range(2000):
            ctx.send(f"{number} " + "x" * 500)
        return str(len(ctx.receive_blob()))

    assert tls_server.uri.startswith("wss://127.0.0.1:")
    client = connect(to=tls_server, sslopt={"ca_certs": str(certificate)})
    instance_id = client.launch("both-ways")
    blob = bytes(4 * 1024 * 1024)
    assert client.upload_blob(instance_id, blob)["successful"]
    *messages, end = client.events(instance_id)
    assert [int(text.split()[0]) for _, text in messages] == list(range(2000))
    assert end == (COMPLETED, str(len(blob)))


def test_a_client_without_tls_harms_nobody(tls_server: LocalServer, certificate: Path, connect: Connect) -> None:
    with socket.create_connection(("127.0.0.1", tls_server.port), PATIENCE) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            while plain.recv(4096):
                pass
        except ConnectionResetError:
            pass  # as good an end as any
    with pytest.raises(ssl.SSLCertVerificationError):
        RawClient(tls_server.uri)
    connect(to=tls_server, sslopt={"ca_certs": str(certificate)}).assert_unanswered()


def test_close_does_not_wait_for_a_tls_handshake(tls_server: LocalServer, connect: Connect) -> None:
    before = set(threading.enumerate())
    with socket.create_connection(("127.0.0.1", tls_server.port), PATIENCE) as silent:
        while set(threading.enumerate()) == before:
            pass  # until the server has accepted it
        started = time.monotonic()
        tls_server.close()
        assert time.monotonic() - started < CLOSE_LIMIT
        assert silent.recv(1) == b""
