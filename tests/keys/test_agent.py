"""Keys held by a real ssh-agent, and by agents that do anything but their part."""

from __future__ import annotations

import base64
import os
import queue
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from typing import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from hypothesis import given, settings
from hypothesis import strategies as st

from pie_sync import InvalidKeyError, ParsedPrivateKey, PieClient
from pie_sync.keys import _agent
from pie_sync.testing import LocalServer

KINDS = ["ed25519", "rsa", "ecdsa -b 256", "ecdsa -b 384"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    paths = []
    for number, kind in enumerate([*KINDS, "ecdsa -b 521", "rsa -b 1024"]):
        path = folder / f"key{number}"
        subprocess.run(["ssh-keygen", "-q", "-t", *kind.split(), "-N", "", "-f", path], check=True)
        paths.append(path)
    return paths


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """A running ssh-agent without keys; the function that it yields adds some."""
    output = subprocess.run(
        ["ssh-agent", "-s", "-a", tmp_path / "agent"], check=True, capture_output=True, text=True
    ).stdout
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    yield lambda *paths: [
        subprocess.run(["ssh-add", "-q", path], check=True, capture_output=True) for path in paths
    ]
    os.kill(int(re.search(r"SSH_AGENT_PID=(\d+)", output)[1]), 15)


def fingerprint_of(path) -> str:
    return subprocess.run(["ssh-keygen", "-lf", path], check=True, capture_output=True, text=True).stdout.split()[
        1
    ]


@pytest.mark.parametrize("number", range(len(KINDS)), ids=KINDS)
def test_every_kind_signs(agent, keys, number):
    agent(*keys)
    key = ParsedPrivateKey.from_agent(fingerprint_of(keys[number]))
    from_file = ParsedPrivateKey.from_file(keys[number])
    assert (key.algorithm, key.fingerprint) == (from_file.algorithm, from_file.fingerprint)
    assert repr(key) == repr(from_file)
    public = load_ssh_public_key(keys[number].with_suffix(".pub").read_bytes())
    signature = key.sign(b"challenge")
    if key.algorithm == "ssh-rsa":
        public.verify(signature, b"challenge", padding.PKCS1v15(), hashes.SHA256())
    elif key.algorithm == "ssh-ed25519":
        public.verify(signature, b"challenge")
    else:
        digest = hashes.SHA256() if key.algorithm.endswith("256") else hashes.SHA384()
        public.verify(signature, b"challenge", ec.ECDSA(digest))


def test_authenticates(agent, keys):
    agent(keys[0])
    with LocalServer(users={"alice": keys[0].with_suffix(".pub").read_text()}) as server:
        with PieClient(server.uri) as client:
            client.authenticate("alice", ParsedPrivateKey.from_agent())
            assert client.ping() > 0


def test_without_a_fingerprint_the_first_that_is_accepted(agent, keys):
    agent(keys[4], keys[5], keys[2], keys[0])
    assert ParsedPrivateKey.from_agent().algorithm == "ecdsa-sha2-nistp256"


def test_what_the_agent_does_not_have(agent, keys):
    with pytest.raises(InvalidKeyError, match="no SSH agent with keys: .*ssh-add"):
        ParsedPrivateKey.from_agent()
    agent(keys[0], keys[4], keys[5])
    with pytest.raises(
        InvalidKeyError, match=r"does not have SHA256:nothing; it has: SHA256:\S+ \(ssh-ed25519\)$"
    ):
        ParsedPrivateKey.from_agent("SHA256:nothing")
    for refused in (keys[4], keys[5]):
        with pytest.raises(InvalidKeyError, match="does not have"):
            ParsedPrivateKey.from_agent(fingerprint_of(refused))
    with pytest.raises(TypeError, match="fingerprint must be str"):
        ParsedPrivateKey.from_agent(b"SHA256:x")


def test_a_key_that_is_taken_away(agent, keys):
    agent(keys[0])
    key = ParsedPrivateKey.from_agent()
    subprocess.run(["ssh-add", "-q", "-D"], check=True, capture_output=True)
    with pytest.raises(InvalidKeyError, match="any more"):
        key.sign(b"x")


def test_no_agent(monkeypatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(InvalidKeyError, match="SSH_AUTH_SOCK"):
        ParsedPrivateKey.from_agent()


# --- agents that do anything but their part ---------------------------------------------------------------

REQUEST_IDENTITIES, SIGN_REQUEST = 11, 13
FAILURE = b"\x05"


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def identities(*keys: tuple[bytes, bytes]) -> bytes:
    """The answer that lists some keys: of each the public half and the comment."""
    return b"\x0c" + struct.pack(">I", len(keys)) + b"".join(string(key) + string(text) for key, text in keys)


def blob_of(path) -> bytes:
    return base64.b64decode(path.with_suffix(".pub").read_text().split()[1])


class ScriptedAgent:
    """An agent on a real socket that answers every request with what a function returns, or hangs up for None."""

    def __init__(self, path: str) -> None:
        self.answer: Callable[[bytes], bytes | None] = lambda request: FAILURE
        # What came last on each connection: nothing, when the client has closed it.
        self.connections: queue.Queue[bytes] = queue.Queue()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rb") as file:
                header = file.read(4)
                if not header:
                    return
                answer = self.answer(file.read(*struct.unpack(">I", header)))
                if answer is not None:
                    try:
                        connection.sendall(answer)
                    except BrokenPipeError:
                        pass  # a client that waits no longer
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(10)
                self.connections.put(file.read(1))

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self._listener.getsockname())
        self._thread.join()
        self._listener.close()


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    path = str(tmp_path / "agent")
    monkeypatch.setenv("SSH_AUTH_SOCK", path)
    agent = ScriptedAgent(path)
    yield agent
    agent.close()


def listing(*keys: tuple[bytes, bytes]) -> Callable[[bytes], bytes]:
    return lambda request: string(identities(*keys)) if request[0] == REQUEST_IDENTITIES else string(FAILURE)


def with_signature(key: bytes, signature: bytes) -> Callable[[bytes], bytes]:
    def answer(request: bytes) -> bytes:
        return string(identities((key, b"")) if request[0] == REQUEST_IDENTITIES else b"\x0e" + string(signature))

    return answer


def test_a_comment_in_any_encoding_hides_no_key(agent, keys, tmp_path):
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", b"Schl\xfcssel", "-f", other], check=True)
    agent(other, keys[2])
    assert ParsedPrivateKey.from_agent().fingerprint == fingerprint_of(other)
    assert ParsedPrivateKey.from_agent(fingerprint_of(keys[2])).sign(b"x")


@pytest.mark.parametrize(
    "damage",
    [
        lambda blob: b"",
        lambda blob: b"\xff\xff\xff\xff",
        lambda blob: string(b"ssh-\xff"),
        lambda blob: string(b"ssh-ed25519"),
        lambda blob: blob[:-1],
        lambda blob: blob + b"\0",
        lambda blob: string(b"ssh-rsa") + string(b"\1") + string(b"\0" * 300),
        lambda blob: string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(b"\4" + b"\7" * 64),
        lambda blob: string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(b"\2" + b"\7" * 32),
    ],
    ids=[
        "empty",
        "no name",
        "name",
        "no key",
        "too short",
        "too long",
        "no RSA key",
        "not on the curve",
        "compressed",
    ],
)
def test_a_damaged_key_is_skipped(scripted, keys, damage):
    damaged = damage(blob_of(keys[0]))
    scripted.answer = listing((damaged, b"damaged"), (blob_of(keys[2]), b"whole"))
    assert ParsedPrivateKey.from_agent().fingerprint == fingerprint_of(keys[2])
    scripted.answer = listing((damaged, b"damaged"))
    with pytest.raises(InvalidKeyError, match="it has: none that is accepted"):
        ParsedPrivateKey.from_agent()


def test_any_damage_to_a_key_is_skipped(scripted, keys):
    blobs = [blob_of(path) for path in keys[:4]]
    whole = ParsedPrivateKey.from_file(keys[3])

    @settings(max_examples=300, deadline=None, database=None)
    @given(
        blob=st.sampled_from(blobs[:3]),
        start=st.integers(0, 300),
        length=st.integers(0, 8),
        replacement=st.binary(max_size=8),
    )
    def check(blob: bytes, start: int, length: int, replacement: bytes) -> None:
        damaged = blob[:start] + replacement + blob[start + length :]
        scripted.answer = listing((damaged, replacement), (blobs[3], b""))
        assert ParsedPrivateKey.from_agent(whole.fingerprint).algorithm == whole.algorithm

    check()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (string(FAILURE), "refuses to list its keys"),
        (None, "hangs up without an answer"),
        (string(FAILURE)[:3], "hangs up without an answer"),
        (string(identities((b"key", b"")))[:-2], "hangs up without an answer"),
        (string(b""), "announces an answer of 0 bytes"),
        (struct.pack(">I", 256 * 1024 + 1), "announces an answer of 262145 bytes"),
        (string(b"\x0c"), "can't be read: a field ends 4 bytes after the data"),
        (string(b"\x0c\xff\xff\xff\xff"), "can't be read"),
        (string(identities((b"key", b"comment"))[:-1]), "can't be read: a field ends 1 bytes after the data"),
        (string(identities()), "no SSH agent with keys"),
    ],
    ids=["failure", "none", "3 bytes", "cut off", "empty", "huge", "no number", "no keys", "short", "no key"],
)
def test_an_agent_that_does_not_list_its_keys(scripted, answer, text):
    scripted.answer = lambda request: answer
    with pytest.raises(InvalidKeyError, match=text):
        ParsedPrivateKey.from_agent()


def test_an_agent_that_is_locked(agent, keys, tmp_path):
    agent(keys[0])
    key = ParsedPrivateKey.from_agent()
    ask_password = tmp_path / "askpass"
    ask_password.write_text("#!/bin/sh\necho secret\n")
    ask_password.chmod(0o700)
    subprocess.run(
        ["ssh-add", "-x"],
        env={**os.environ, "SSH_ASKPASS": str(ask_password), "SSH_ASKPASS_REQUIRE": "force"},
        check=True,
        capture_output=True,
    )
    with pytest.raises(InvalidKeyError, match="no SSH agent with keys"):
        ParsedPrivateKey.from_agent()
    with pytest.raises(InvalidKeyError, match="any more"):
        key.sign(b"x")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (string(FAILURE), "refuses to sign with SHA256:"),
        (None, "hangs up without an answer"),
        (string(b"\x0e"), "can't be read"),
        (string(b"\x0e" + string(b"")), "signature of SHA256:.* can't be used: a field ends"),
        (string(b"\x0e" + string(string(b"ssh-dss") + string(b"x"))), "it is of the kind 'ssh-dss', not"),
        (string(b"\x0e" + string(string(b"ecdsa-sha2-nistp256") + string(b"xyz"))), "a field ends 1 bytes after"),
    ],
    ids=["failure", "none", "no signature", "empty", "another kind", "no numbers"],
)
def test_an_agent_that_does_not_sign(scripted, keys, answer, text):
    scripted.answer = listing((blob_of(keys[2]), b""))
    key = ParsedPrivateKey.from_agent()
    scripted.answer = lambda request: (
        answer if request[0] == SIGN_REQUEST else string(identities((blob_of(keys[2]), b"")))
    )
    with pytest.raises(InvalidKeyError, match=text):
        key.sign(b"x")


def test_an_agent_that_knows_no_sha256(scripted, keys):
    scripted.answer = with_signature(blob_of(keys[1]), string(b"ssh-rsa") + string(bytes(256)))
    with pytest.raises(InvalidKeyError, match="it is of the kind 'ssh-rsa', not 'rsa-sha2-256'"):
        ParsedPrivateKey.from_agent().sign(b"x")


def test_an_agent_that_never_answers(scripted, keys, monkeypatch):
    done = threading.Event()
    scripted.answer = lambda request: done.wait(60) and None
    monkeypatch.setattr(_agent, "_LIST_LIMIT", 0.2)
    try:
        with pytest.raises(InvalidKeyError, match=r"does not answer within 0\.2 s"):
            ParsedPrivateKey.from_agent()
    finally:
        done.set()
    scripted.answer = listing((blob_of(keys[0]), b""))
    monkeypatch.setattr(_agent, "_LIST_LIMIT", 10.0)
    key = ParsedPrivateKey.from_agent()
    done.clear()
    scripted.answer = lambda request: done.wait(60) and None
    monkeypatch.setattr(_agent, "_SIGN_LIMIT", 0.2)
    try:
        with pytest.raises(InvalidKeyError, match=r"does not answer within 0\.2 s"):
            key.sign(b"x")
    finally:
        done.set()


def test_an_agent_that_does_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    monkeypatch.setattr(_agent, "_SIGN_LIMIT", 0.2)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent"))
        listener.listen()
        with pytest.raises(InvalidKeyError, match=r"does not answer within 0\.2 s"):
            _agent.AgentKey(b"", "ssh-ed25519").sign_ssh_data(bytes(4 * 1024 * 1024))


def test_an_agent_with_too_many_connections(tmp_path, monkeypatch, keys):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent"))
        listener.listen(0)
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(str(tmp_path / "agent"))
        monkeypatch.setattr(_agent, "_LIST_LIMIT", 0.2)
        with waiting, pytest.raises(InvalidKeyError, match=r"does not answer within 0\.2 s"):
            ParsedPrivateKey.from_agent()

        monkeypatch.setattr(_agent, "_LIST_LIMIT", 10.0)
        refused = threading.Event()
        sleep = time.sleep
        monkeypatch.setattr(_agent.time, "sleep", lambda seconds: (refused.set(), sleep(seconds)))

        def serve() -> None:
            refused.wait(10)
            listener.accept()[0].close()
            with listener.accept()[0] as connection:
                connection.recv(5)
                connection.sendall(string(identities((blob_of(keys[0]), b""))))

        thread = threading.Thread(target=serve)
        thread.start()
        assert ParsedPrivateKey.from_agent().fingerprint == fingerprint_of(keys[0])
        thread.join()


@pytest.mark.parametrize("path", ["missing", "not a socket", "x" * 200])
def test_an_agent_that_is_not_there(tmp_path, monkeypatch, path):
    (tmp_path / "not a socket").touch()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / path))
    with pytest.raises(InvalidKeyError, match=r"can't be asked: .*(No such file|refused|too long)"):
        ParsedPrivateKey.from_agent()


class Watchdog(Exception):
    """What a signal handler of the user's may raise."""


@pytest.mark.parametrize("error", [TimeoutError("watchdog"), OSError("watchdog"), Watchdog("watchdog")], ids=repr)
def test_what_a_signal_handler_raises_passes_as_it_is(scripted, error):
    done = threading.Event()

    def answer(request: bytes) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        done.wait(60)

    def handler(number, frame):
        raise error

    scripted.answer = answer
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(type(error), match="^watchdog$"):
            ParsedPrivateKey.from_agent()
    finally:
        done.set()
        signal.signal(signal.SIGUSR1, before)


def test_nothing_stays_open(scripted, keys):
    """An error that holds its frames, as a debugger does, does not hold a socket."""
    scripted.answer = lambda request: None
    with pytest.raises(InvalidKeyError) as caught:
        ParsedPrivateKey.from_agent()
    scripted.answer = listing((blob_of(keys[0]), b""))
    assert ParsedPrivateKey.from_agent()
    assert (scripted.connections.get(timeout=10), scripted.connections.get(timeout=10)) == (b"", b""), caught


def test_what_a_signal_handler_raises_while_a_key_is_read(scripted, keys, monkeypatch):
    def interrupted(data):
        raise Watchdog("watchdog")

    scripted.answer = listing((blob_of(keys[0]), b""))
    monkeypatch.setattr(_agent, "load_ssh_public_key", interrupted)
    with pytest.raises(Watchdog):
        ParsedPrivateKey.from_agent()
