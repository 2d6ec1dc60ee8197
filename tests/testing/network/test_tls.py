"""TLS connections: traffic in both directions at once, and handshakes that fail."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pie_sync.testing import LocalServer, ProgramContext
from pie_sync.testing._network.tls import TlsSocket
from tests.testing.conftest import Connect
from tests.testing.raw import CLOSE_LIMIT, COMPLETED, PATIENCE, RawClient


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


# A TlsSocket by itself


class Peer:
    """The client's end of a TlsSocket: it decides which bytes go onto the wire, and when."""

    def __init__(self, sock: socket.socket, certificate: Path) -> None:
        sock.settimeout(PATIENCE)
        self.socket = sock
        self._incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(certificate))
        self.tls = context.wrap_bio(self._incoming, self.outgoing, server_hostname="127.0.0.1")

    def do_handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                self._incoming.write(self.socket.recv(65536))
            else:
                self.flush()
                return

    def flush(self) -> None:
        self.socket.sendall(self.outgoing.read())

    def read_to_the_end(self) -> bytes:
        data = b""
        while True:
            try:
                part = self.tls.read(65536)
            except ssl.SSLWantReadError:
                self._incoming.write(self.socket.recv(65536))
                continue
            if not part:
                return data
            data += part


@pytest.fixture
def ends(certificate: Path) -> Iterator[tuple[TlsSocket, Peer]]:
    """A TlsSocket and its peer, after their handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), PATIENCE)
        accepted, _ = listener.accept()
    server, peer = TlsSocket(accepted, context), Peer(client, certificate)
    with ThreadPoolExecutor() as executor:
        handshake = executor.submit(server.do_handshake, PATIENCE)
        peer.do_handshake()
        handshake.result(PATIENCE)
    server.settimeout(PATIENCE)
    yield server, peer
    server.close()
    client.close()


def test_it_has_the_addresses_and_the_descriptor_of_its_socket(ends: tuple[TlsSocket, Peer]) -> None:
    server, peer = ends
    assert server.getsockname() == peer.socket.getpeername()
    assert server.getpeername() == peer.socket.getsockname()
    descriptor = server.fileno()
    assert descriptor >= 0
    server.close()
    assert server.fileno() == -1


def test_a_record_in_pieces_is_received_when_it_is_complete(ends: tuple[TlsSocket, Peer]) -> None:
    server, peer = ends
    peer.tls.write(b"hello")
    record = peer.outgoing.read()
    with ThreadPoolExecutor() as executor:
        received = executor.submit(server.recv, 4096)
        for byte in record:
            assert not received.done()
            peer.socket.sendall(bytes([byte]))
        assert received.result(PATIENCE) == b"hello"


def test_all_that_can_be_decrypted_is_received_at_once(ends: tuple[TlsSocket, Peer]) -> None:
    server, peer = ends
    for text in (b"one", b"two"):
        peer.tls.write(text)
    peer.flush()
    received = server.recv(1)
    while received != b"onetwo":
        received += server.recv(1)
    assert received == b"onetwo"


def test_the_end_of_sending_is_announced(ends: tuple[TlsSocket, Peer]) -> None:
    server, peer = ends
    server.sendall(b"last")
    server.shutdown(socket.SHUT_WR)
    assert peer.read_to_the_end() == b"last"
    # The other direction goes on.
    peer.tls.write(b"answer")
    peer.flush()
    assert server.recv(4096) == b"answer"


@pytest.mark.parametrize("announced", [True, False], ids=["close_notify", "cut off"])
def test_data_before_the_end_is_received(ends: tuple[TlsSocket, Peer], announced: bool) -> None:
    server, peer = ends
    peer.tls.write(b"last")
    if announced:  # and the TCP connection stays open
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.unwrap()
        peer.flush()
    else:
        peer.flush()
        peer.socket.shutdown(socket.SHUT_WR)
    received = b""
    while part := server.recv(4096):
        received += part
    assert received == b"last"
    assert server.recv(4096) == b""


def test_a_broken_record_ends_the_connection_after_what_came_before(ends: tuple[TlsSocket, Peer]) -> None:
    server, peer = ends
    peer.tls.write(b"sound")
    sound = peer.outgoing.read()
    peer.tls.write(b"broken")
    broken = bytearray(peer.outgoing.read())
    broken[-1] ^= 1
    peer.socket.sendall(sound + bytes(broken))
    received = b""
    while part := server.recv(4096):
        received += part
    assert received == b"sound"


def test_a_wait_has_the_sockets_time_limit(ends: tuple[TlsSocket, Peer]) -> None:
    server, _ = ends
    server.settimeout(0.05)
    with pytest.raises(socket.timeout):
        server.recv(4096)
    with pytest.raises(socket.timeout):
        server.sendall(bytes(64 * 1024 * 1024))


def test_closing_ends_a_wait(ends: tuple[TlsSocket, Peer]) -> None:
    server, _ = ends
    with ThreadPoolExecutor() as executor:
        received = executor.submit(server.recv, 4096)
        server.close()
        try:
            assert received.result(PATIENCE) == b""
        except OSError:
            pass  # closed before it waited
