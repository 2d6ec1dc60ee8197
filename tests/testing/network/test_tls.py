"""TLS connections: traffic in both directions at once, and handshakes that fail."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pie_sync.testing import LocalServer, ProgramContext
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
