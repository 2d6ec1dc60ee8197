"""wss:// with real certificates, made for the occasion."""

from __future__ import annotations

import os
import ssl
import threading

import pytest
import trustme

from pie_sync import Event, PieClient, PieConnectionError
from pie_sync.testing import LocalServer
from tests.programs import add_programs


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with LocalServer(ssl_context=context) as server:
        add_programs(server)
        yield server


@pytest.fixture
def trusting(authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_an_unknown_authority_is_refused_by_default(server):
    assert server.uri.startswith("wss://")
    with pytest.raises(PieConnectionError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        PieClient(server.uri).connect()
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_another_host_name_is_refused(authority, trusting):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    with LocalServer(ssl_context=context) as server:
        with pytest.raises(PieConnectionError, match="mismatch"):
            PieClient(server.uri, ssl_context=trusting).connect()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_directions_at_once(server, trusting, version):
    """A thread that reads while others write: what breaks connections when it's done wrongly."""
    trusting.minimum_version = trusting.maximum_version = version
    blob = os.urandom(1_500_000)
    with PieClient(server.uri, ssl_context=trusting) as client:
        client.authenticate("alice")
        errors = []

        def work():
            try:
                flood = client.launch_instance_from_registry("flood", ["3000"])
                echo = client.launch_instance_from_registry("blob-echo")
                echo.upload_blob(blob)
                assert echo.recv(timeout=30) == (Event.Blob, blob)
                assert flood.wait(timeout=30).messages == tuple(map(str, range(3000)))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors
        assert client.ping() > 0
