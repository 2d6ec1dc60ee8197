"""Keys, passwords, tokens and signatures: not in logs at any level, not in reprs, not in exceptions."""

from __future__ import annotations

import base64
import logging
import subprocess
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pie_sync import Event, ParsedPrivateKey, PieClient, PieConnectionError, PieError, ProtocolError
from pie_sync.testing import LocalServer
from tests.faults.raw_server import RawPeer, raw_server
from tests.programs import add_programs

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "correct horse battery staple"
TOKEN = "the-internal-token"
HEADER = "Bearer of-another-secret"

#: What programs and users say to each other.
PAYLOAD = "what the doctor said"


class Watch:
    """Everything that is said where secrets must not be."""

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []
        self.texts: list[str] = []

    def add(self, thing: object) -> None:
        """Take note of an object's repr, and of all that an exception says, with its causes and their frames."""
        self.texts += [repr(thing), str(thing)]
        if isinstance(thing, BaseException):
            self.texts += traceback.format_exception(type(thing), thing, thing.__traceback__)
            self.texts += [repr(vars(thing)), repr(thing.args)]

    @contextmanager
    def expect(self, *kinds: type[BaseException]) -> Iterator[None]:
        with pytest.raises(kinds) as caught:
            yield
        self.add(caught.value)

    def assert_silent(self, *secrets: str | bytes) -> None:
        logged = [self._whole(record) for record in self.records]
        assert logged, "nothing was logged at all: the watch is blind"
        assert self.texts
        for secret in secrets:
            for form in forms_of(secret):
                assert not any(form in text for text in logged), f"{form!r} was logged"
                # The lines of a test's own source are in its tracebacks, hence the constants at the top.
                assert not any(form in text for text in self.texts), f"{form!r} is in a text"

    def assert_payloads_are_not_above_debug(self) -> None:
        for record in self.records:
            if record.levelno > logging.DEBUG:
                assert PAYLOAD not in self._whole(record), record

    @staticmethod
    def _whole(record: logging.LogRecord) -> str:
        return f"{record.getMessage()} {record.args!r} {record.exc_text} {record.exc_info} {record.threadName}"


def forms_of(secret: str | bytes) -> set[str]:
    """The forms in which somebody could print it."""
    data = secret.encode() if isinstance(secret, str) else secret
    encoded = base64.b64encode(data).decode()
    return {data.decode("latin-1"), repr(data)[2:-1], encoded, encoded[:20], data.hex()}


@pytest.fixture
def watch(caplog) -> Iterator[Watch]:
    """Listens to the loggers of this library and of those that it uses, at every level."""
    watch = Watch()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # LocalServer is in this process, too: its loggers, which tell what comes in, are not the client's.
            if not record.name.startswith("pie_sync.testing"):
                watch.records.append(record)

    handler = Handler(1)
    names = ["pie_sync", "websocket", "paramiko"]
    for name in names:
        caplog.set_level(1, name)
        logging.getLogger(name).addHandler(handler)
    yield watch
    for name in names:
        logging.getLogger(name).removeHandler(handler)


@pytest.fixture(scope="module")
def encrypted_key(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "id"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", PASSWORD, "-f", path]
    subprocess.run(command, check=True)
    return path


def key_material(path: Path) -> list[bytes]:
    """The secret numbers of an Ed25519 key, and lines of its file."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_ssh_private_key(path.read_bytes(), PASSWORD.encode())
    raw = key.private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    return [raw, *path.read_bytes().splitlines()[1:-1]]


def test_authenticating_with_a_key(watch, encrypted_key):
    watch_signatures: list[bytes] = []

    refuse = iter([True, False])

    def serve(peer: RawPeer) -> None:  # a connection for each attempt
        peer.upgrade()
        peer.respond(peer.receive(), base64.b64encode(bytes(range(48))).decode())
        request = peer.receive()
        watch_signatures.append(base64.b64decode(request["signature"]))
        if next(refuse):
            corr_id = request["corr_id"]
            peer.send(type="response", corr_id=corr_id, successful=False, result="Invalid signature")
        else:
            peer.respond(request, "Authenticated")
        peer.receive()

    for password in ("not " + PASSWORD, None):
        with watch.expect(PieError):
            ParsedPrivateKey.from_file(encrypted_key, password)
    key = ParsedPrivateKey.from_file(encrypted_key, PASSWORD)
    watch.add(key)
    with raw_server(serve) as uri, PieClient(uri, headers={"Authorization": HEADER}) as client:
        watch.add(client)
        with watch.expect(PieError):
            client.authenticate("alice", key)
        client.authenticate("alice", key)
        watch.add(client._manager.connection)
        logging.getLogger("pie_sync.connection").debug("(not blind)")
    watch.assert_silent(PASSWORD, HEADER, *watch_signatures, *key_material(encrypted_key))


def test_authenticating_with_a_token(watch):
    with LocalServer(internal_token="another") as server, PieClient(server.uri) as client:
        with watch.expect(PieError):
            client.internal_authenticate(TOKEN)
        with watch.expect(PieError, PieConnectionError):
            client.ping()
    with LocalServer(internal_token=TOKEN) as server, PieClient(server.uri) as client:
        client.internal_authenticate(TOKEN)
        watch.add(client)
        watch.add(client._manager.connection)
        with watch.expect(PieError):
            client.internal_authenticate(TOKEN)
    logging.getLogger("pie_sync.connection").debug("(not blind)")
    watch.assert_silent(TOKEN)


def test_a_server_that_repeats_secrets(watch):
    """A careless server, whose reason for a refusal is what it was sent."""

    def serve(peer: RawPeer) -> None:
        peer.upgrade()
        request = peer.receive()
        result = f"no such token: {request.get('token')}"
        peer.send(type="response", corr_id=request["corr_id"], successful=False, result=result)
        peer.receive()

    with raw_server(serve) as uri, PieClient(uri) as client:
        with watch.expect(PieError):
            client.internal_authenticate(TOKEN)
    logging.getLogger("pie_sync.connection").debug("(not blind)")
    watch.assert_silent(TOKEN)


def test_connecting(watch, monkeypatch):
    """Headers and the passwords of proxies, when it can't be connected."""

    def serve(peer: RawPeer) -> None:
        peer.socket.recv(65536)
        peer.socket.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")

    with raw_server(serve) as uri:
        client = PieClient(uri, headers={"Authorization": HEADER})
        watch.add(client)
        with watch.expect(PieConnectionError):
            client.connect()
        monkeypatch.setenv("http_proxy", uri.replace("ws://", f"http://alice:{TOKEN}@"))
        with watch.expect(PieConnectionError):
            PieClient("ws://pie.example", headers={"Authorization": HEADER}).connect()
    logging.getLogger("pie_sync.connection").debug("(not blind)")
    watch.assert_silent(HEADER, TOKEN)


def test_a_password_in_the_uri(watch):
    """It does nothing there, but somebody may put it there all the same."""
    try:
        client = PieClient(f"ws://alice:{TOKEN}@127.0.0.1:1")
    except ValueError as error:
        watch.add(error)
    else:
        watch.add(client)
        with watch.expect(PieConnectionError):
            client.connect()
    logging.getLogger("pie_sync.connection").debug("(not blind)")
    watch.assert_silent(TOKEN)


def test_payloads_are_not_logged_above_debug(watch):
    """Whatever a program says, and also when it's said in a way that makes no sense."""

    def serve(peer: RawPeer) -> None:
        peer.authenticate()
        peer.launch()
        event = {"type": "instance_event", "instance_id": "instance-1", "event": 0, "message": PAYLOAD}
        for wrong in (
            {"event": 99},
            {"event": PAYLOAD},
            {"instance_id": "unknown"},
            {"instance_id": ["unknown", PAYLOAD]},
            {"instance_id": "unknown", "event": 99},
            {"instance_id": "unknown", "message": [PAYLOAD]},
            {"type": "response"},
            {"type": "response", "corr_id": 5, "successful": True, "result": PAYLOAD},
            {"type": "server_event"},
            {"type": "streaming_output", "output": {"Stdin": PAYLOAD}},
            {"type": "streaming_output", "instance_id": "unknown", "output": PAYLOAD},
            {"type": "download_blob", "instance_id": "unknown", "chunk_data": PAYLOAD.encode()},
        ):
            peer.send(**{**event, **wrong})
        peer.socket.sendall(b"\x81" + bytes((len(PAYLOAD),)) + PAYLOAD.encode())
        peer.socket.sendall(b"\x82" + bytes((len(PAYLOAD),)) + PAYLOAD.encode())
        peer.send(**{**event, "message": "the end"})
        peer.receive()

    with raw_server(serve) as uri, PieClient(uri) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("x")
        while True:
            try:
                if instance.recv(10) == (Event.Message, "the end"):
                    break
            except ProtocolError as error:
                watch.add(error)
        watch.add(instance)
    assert any(record.levelno > logging.DEBUG for record in watch.records), (
        "nothing was logged: the watch is blind"
    )
    watch.assert_payloads_are_not_above_debug()
    assert not any(PAYLOAD in text for text in watch.texts)


def test_a_whole_session_logs_no_payload_above_debug(watch, server):
    add_programs(server)
    with PieClient(server.uri) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("echo", [PAYLOAD])
        instance.send(PAYLOAD)
        assert instance.recv(10) == (Event.Message, PAYLOAD)
        blobs = client.launch_instance_from_registry("blob-echo")
        blobs.upload_blob(PAYLOAD.encode())
        assert blobs.recv(10) == (Event.Blob, PAYLOAD.encode())
        with watch.expect(PieError):
            client.launch_instance_from_registry("no-such-program")
        server.drop_connections()
        with watch.expect(PieConnectionError):
            instance.recv(10)
    assert watch.records
    watch.assert_payloads_are_not_above_debug()
