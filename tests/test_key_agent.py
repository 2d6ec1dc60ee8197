"""Keys held by a real ssh-agent, and key files that others can read."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from pie_sync import InvalidKeyError, ParsedPrivateKey, PieClient
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


class TestPermissions:
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
    def test_a_file_that_others_can_read(self, keys, tmp_path, mode):
        path = tmp_path / "key"
        path.write_bytes(keys[0].read_bytes())
        path.chmod(mode)
        with pytest.warns(UserWarning, match=f"others can read this private key.*chmod 600 {path}"):
            ParsedPrivateKey.from_file(path)
        with pytest.raises(InvalidKeyError, match="others can read"):
            ParsedPrivateKey.from_file(path, strict_permissions=True)

    def test_a_file_of_ones_own(self, keys):
        assert ParsedPrivateKey.from_file(keys[0], strict_permissions=True).algorithm == "ssh-ed25519"
