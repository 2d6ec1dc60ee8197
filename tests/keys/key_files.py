"""Makes key files with the real tools, and verifies signatures like a Pie server."""

from __future__ import annotations

import base64
import struct
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from pie_sync.errors import InvalidKeyError
from pie_sync.keys import ParsedPrivateKey

PASSWORD = "correct horse; bättery"
CHALLENGE = bytes(range(48))
ALGORITHMS = {
    "rsa": "ssh-rsa",
    "ed25519": "ssh-ed25519",
    "p256": "ecdsa-sha2-nistp256",
    "p384": "ecdsa-sha2-nistp384",
}
OPENSSH = "-----BEGIN OPENSSH PRIVATE KEY-----"
PKCS1 = "-----BEGIN RSA PRIVATE KEY-----"
SEC1 = "-----BEGIN EC PRIVATE KEY-----"
PKCS8 = "-----BEGIN PRIVATE KEY-----"
ENCRYPTED_PKCS8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----"

# generator, kind, requested format, first line of the plain file, first line of the encrypted file
_FILES = [
    ("ssh-keygen", "ed25519", "OPENSSH", OPENSSH, OPENSSH),
    ("ssh-keygen", "rsa", "OPENSSH", OPENSSH, OPENSSH),
    ("ssh-keygen", "rsa", "PEM", PKCS1, PKCS1),
    ("ssh-keygen", "rsa", "PKCS8", PKCS8, ENCRYPTED_PKCS8),
    ("ssh-keygen", "p256", "OPENSSH", OPENSSH, OPENSSH),
    ("ssh-keygen", "p256", "PEM", SEC1, SEC1),
    ("ssh-keygen", "p256", "PKCS8", PKCS8, ENCRYPTED_PKCS8),
    ("ssh-keygen", "p384", "OPENSSH", OPENSSH, OPENSSH),
    ("ssh-keygen", "p384", "PEM", SEC1, SEC1),
    ("ssh-keygen", "p384", "PKCS8", PKCS8, ENCRYPTED_PKCS8),
    ("openssl", "ed25519", "PKCS8", PKCS8, ENCRYPTED_PKCS8),
    ("openssl", "rsa", "PEM", PKCS1, PKCS1),
    ("openssl", "rsa", "PKCS8", PKCS8, ENCRYPTED_PKCS8),
    ("openssl", "p256", "PEM", SEC1, SEC1),
    ("openssl", "p256", "PKCS8", PKCS8, ENCRYPTED_PKCS8),
    ("openssl", "p384", "PEM", SEC1, SEC1),
    ("openssl", "p384", "PKCS8", PKCS8, ENCRYPTED_PKCS8),
]
FILES = [pytest.param(*row, id="-".join(row[:3])) for row in _FILES]


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class MadeKey(NamedTuple):
    path: Path
    public: Any  # cryptography's public key, loaded from the generator's file


class KeyMaker:
    """Makes key files with the real tools, each only once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[tuple[str, str, str, bool], MadeKey] = {}

    def __call__(self, generator: str, kind: str, file_format: str, encrypted: bool = False) -> MadeKey:
        wanted = (generator, kind, file_format, encrypted)
        if wanted not in self._made:
            path = self.folder / f"{generator}-{kind}-{file_format}-{'encrypted' if encrypted else 'plain'}"
            make = self._by_ssh_keygen if generator == "ssh-keygen" else self._by_openssl
            self._made[wanted] = MadeKey(path, make(path, kind, file_format, encrypted))
        return self._made[wanted]

    @staticmethod
    def _by_ssh_keygen(path: Path, kind: str, file_format: str, encrypted: bool) -> Any:
        key_type = {
            "ed25519": ["ed25519"],
            "rsa": ["rsa", "-b", "2048"],
            "p256": ["ecdsa", "-b", "256"],
            "p384": ["ecdsa", "-b", "384"],
            "p521": ["ecdsa", "-b", "521"],
            "rsa1024": ["rsa", "-b", "1024"],
        }[kind]
        options = [] if file_format == "OPENSSH" else ["-m", file_format]
        password = PASSWORD if encrypted else ""
        run("ssh-keygen", "-q", "-t", *key_type, *options, "-a", "1", "-N", password, "-f", path)
        return serialization.load_ssh_public_key(Path(f"{path}.pub").read_bytes())

    def _by_openssl(self, path: Path, kind: str, file_format: str, encrypted: bool) -> Any:
        algorithm = {
            "ed25519": ["ed25519"],
            "ed448": ["ed448"],
            "x25519": ["x25519"],
            "rsa": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            "rsa2047": ["RSA", "-pkeyopt", "rsa_keygen_bits:2047"],
            "p256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            "p384": ["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            "p521": ["EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
            "secp256k1": ["EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
        }[kind]
        plain = self.folder / f"{path.name}-as-generated"
        run("openssl", "genpkey", "-algorithm", *algorithm, "-out", plain)
        convert = ["-aes256", "-passout", f"pass:{PASSWORD}"] if encrypted else []
        convert += ["-traditional"] if file_format == "PEM" else []
        run("openssl", "pkey", "-in", plain, *convert, "-out", path)
        return serialization.load_pem_public_key(run("openssl", "pkey", "-in", plain, "-pubout").encode())


def verify(public: Any, signature: bytes, data: bytes) -> None:
    """Verify a signature like a Pie server; raises InvalidSignature."""
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(signature, data)
    else:
        digest = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384()}[public.curve.name]
        public.verify(signature, data, ec.ECDSA(digest))


def fingerprint_by_ssh_keygen(public: Any, folder: Path) -> str:
    path = folder / "key.pub"
    path.write_bytes(
        public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH) + b"\n"
    )
    return run("ssh-keygen", "-l", "-f", path).split()[1]


def openssh_file(key_type: bytes, *numbers: int, cipher: bytes = b"none") -> str:
    """Return a file in OpenSSH's format with a valid public part and an empty private part."""

    def string(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    public = string(key_type)
    for number in numbers:
        public += string(number.to_bytes(number.bit_length() // 8 + 1, "big"))
    kdf = b"none" if cipher == b"none" else b"bcrypt"
    data = b"openssh-key-v1\0" + string(cipher) + string(kdf) + string(b"") + struct.pack(">I", 1)
    data += string(public) + string(bytes(64))
    return f"{OPENSSH}\n{base64.encodebytes(data).decode()}-----END OPENSSH PRIVATE KEY-----\n"


def refusal(text: str | bytes, password: str | bytes | None = None) -> InvalidKeyError:
    with pytest.raises(InvalidKeyError) as caught:
        ParsedPrivateKey.parse(text, password)
    assert caught.value.__context__ is None  # a library's exception is the cause, or is left out
    return caught.value
