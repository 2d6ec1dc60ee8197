"""What errors say about their cures, with servers that cause them."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trustme

from pie_sync import LaunchError, PieClient, PieConnectionError, PieError
from pie_sync._texts import hints
from pie_sync._texts.hints import hint_for_refusal, in_a_shell
from pie_sync.testing import LocalServer
from tests.programs import add_programs

if TYPE_CHECKING:
    from collections.abc import Iterator


def hint_of_connecting(uri: str) -> str:
    client = PieClient(uri, connect_timeout=20)
    with pytest.raises(PieConnectionError) as caught:
        client.connect()
    assert caught.value.hint is not None
    assert str(caught.value).endswith(f" (hint: {caught.value.hint})")
    return caught.value.hint


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that reads something, and answers the same to everybody. Yields its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    sock.recv(64 * 1024)
                    sock.sendall(answer)
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        host, port = listener.getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def tls_server() -> LocalServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return LocalServer(ssl_context=context)


def test_tls_to_a_plain_server() -> None:
    with LocalServer() as server:
        assert "its address begins with ws://" in hint_of_connecting(server.uri.replace("ws:", "wss:"))
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        hint = hint_of_connecting(f"wss://{address}")
        assert hint == "this server speaks no TLS: its address begins with ws://"


def test_no_tls_to_a_tls_server() -> None:
    with tls_server() as server:
        assert "its address begins with wss://" in hint_of_connecting(server.uri.replace("wss:", "ws:"))
    alert = b"\x15\x03\x01\x00\x02\x02\x16"  # unexpected_message, as OpenSSL sends it
    refusal = b"Client sent an HTTP request to an HTTPS server.\n"  # Go's
    for answer in (
        alert,
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(refusal), refusal),
    ):
        with answering(answer) as address:
            hint = hint_of_connecting(f"ws://{address}")
            assert hint == "this server speaks TLS: its address begins with wss://"


def test_a_certificate_that_nobody_vouches_for() -> None:
    with tls_server() as server:
        assert "ssl_context" in hint_of_connecting(server.uri)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert hint_of_connecting(f"ws://127.0.0.1:{port}") == (
        "is the server running? `pie-sync serve` starts one to try things out"
    )
    assert "host" in hint_of_connecting("ws://no.such.host.invalid")


def test_what_has_no_known_cure_has_no_hint() -> None:
    with answering(b"HTTP/1.1 500 Oops\r\n\r\n") as address:
        with pytest.raises(PieConnectionError) as caught:
            PieClient(f"ws://{address}").connect()
        assert caught.value.hint is None
        assert "hint" not in str(caught.value)
    assert hint_for_refusal("launch_instance", "the moon is full") is None


@pytest.mark.parametrize("protocol", ["instance", "process", "process-0.5"])
def test_refusals_of_each_generation(protocol: str) -> None:
    """Each has a hint of its own; the two generations use other words for the same."""
    with LocalServer(protocol=protocol) as server, PieClient(server.uri) as client:
        add_programs(server)
        client.authenticate("alice")
        instance = client.run("talk" if protocol == "instance" else "talk@0.1.0")
        assert instance.event.name == "Completed"
        for call, words in [
            (lambda: client.launch_instance("ab" * 32), "is it on the server?"),
            (lambda: client.launch_instance_from_registry("nope@1.0.0"), "is it on the server?"),
            (lambda: client.attach_instance("12345678-1234-1234-1234-123456789abc"), "has it ended?"),
            (lambda: client.attach_instance("x"), "an id is a UUID"),
            (lambda: client.attach_instance(""), "an id is a UUID"),
            (lambda: client.terminate_instance("x"), "an id is a UUID"),
        ]:
            with pytest.raises(PieError) as caught:
                call()
            assert words in (caught.value.hint or ""), str(caught.value)


def test_a_name_without_the_version_that_the_server_wants() -> None:
    with LocalServer(protocol="process") as server, PieClient(server.uri) as client:
        client.authenticate("alice")
        with pytest.raises(LaunchError) as caught:
            client.launch_instance_from_registry("echo")
        assert caught.value.hint == "this server wants the version as well: NAME@1.2.3"


def test_hints_for_a_shell_name_nothing_of_python() -> None:
    everything = [value for name, value in vars(hints).items() if name.isupper() and isinstance(value, str)]
    assert any("()" in hint for hint in everything)
    for hint in everything:
        text = in_a_shell(hint).replace(hints._TEXT_FORMAT, "")  # a command of Python's is all that there is
        assert not re.search(r"\w+\(|connect_timeout", text), text
    assert in_a_shell(hints._BOUND).endswith("; `pie-sync list` shows those that the server has")


def test_a_name_that_pie_0_5_does_not_know() -> None:
    with LocalServer(protocol="0.5") as server, PieClient(server.uri) as client:
        client.authenticate("alice")
        with pytest.raises(LaunchError, match="no program named") as caught:
            client.run("nobody-knows")
    assert caught.value.hint == hint_for_refusal("run", "No such program")
