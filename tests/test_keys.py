"""Private keys: every kind and file format, made by ssh-keygen and by openssl, checked by cryptography."""

from __future__ import annotations

import base64
import copy
import pickle
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pie_sync.keys
from pie_sync.errors import InvalidKeyError, PieError
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

# generator, kind, format that is asked for, first line of the plain file, first line of the encrypted file
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
    public: Any  # cryptography's public key, out of what the generator wrote


class KeyMaker:
    """Makes key files with the real tools, each but once."""

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


@pytest.fixture(scope="session")
def make_key(tmp_path_factory: pytest.TempPathFactory) -> KeyMaker:
    return KeyMaker(tmp_path_factory.mktemp("keys"))


def verify(public: Any, signature: bytes, data: bytes) -> None:
    """Verify as a Pie server does; raises InvalidSignature."""
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
    """A file in OpenSSH's format with a proper clear part, and nothing behind it."""

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
    assert caught.value.__context__ is None  # what a library raised is the cause, or left out
    return caught.value


class TestEveryKindAndFormat:
    @pytest.mark.parametrize(("generator", "kind", "file_format", "first_line", "_"), FILES)
    def test_plain(self, make_key, tmp_path, generator, kind, file_format, first_line, _):
        path, public = make_key(generator, kind, file_format)
        assert path.read_text().splitlines()[0] == first_line
        key = ParsedPrivateKey.from_file(path)
        verify(public, key.sign(CHALLENGE), CHALLENGE)
        assert key.algorithm == ALGORITHMS[kind]
        assert key.fingerprint == fingerprint_by_ssh_keygen(public, tmp_path)

    @pytest.mark.parametrize(("generator", "kind", "file_format", "_", "first_line"), FILES)
    def test_encrypted(self, make_key, tmp_path, generator, kind, file_format, _, first_line):
        path, public = make_key(generator, kind, file_format, encrypted=True)
        text = path.read_text()
        assert text.splitlines()[0] == first_line
        assert ("Proc-Type: 4,ENCRYPTED" in text) == (file_format == "PEM")
        key = ParsedPrivateKey.from_file(path, password=PASSWORD)
        verify(public, key.sign(CHALLENGE), CHALLENGE)
        assert key.algorithm == ALGORITHMS[kind]
        assert key.fingerprint == fingerprint_by_ssh_keygen(public, tmp_path)

        missing = refusal(text)
        assert "is encrypted: give its password (password=...)" in str(missing)
        assert str(refusal(text, "")) == str(refusal(text, b"")) == str(missing)

        wrong = refusal(text, "Tr0ub4dor&3")
        assert "Tr0ub4dor" not in f"{wrong!r} {wrong.__cause__!r}"
        assert str(wrong).startswith("wrong password for the private key")
        assert wrong.__cause__ is not None
        assert wrong.__cause__.__traceback__ is None  # its frames would hold the password

    @pytest.mark.parametrize(("generator", "kind", "file_format", "first_line", "_"), FILES)
    def test_a_needless_password_is_ignored(self, make_key, generator, kind, file_format, first_line, _):
        path, public = make_key(generator, kind, file_format)
        verify(public, ParsedPrivateKey.from_file(path, "needless").sign(CHALLENGE), CHALLENGE)

    @pytest.mark.parametrize("file_format", ["OPENSSH", "PEM", "PKCS8"])
    def test_password_as_bytes(self, make_key, file_format):
        path, public = make_key("ssh-keygen", "p256", file_format, encrypted=True)
        key = ParsedPrivateKey.parse(path.read_bytes(), PASSWORD.encode())
        verify(public, key.sign(CHALLENGE), CHALLENGE)

    def test_cbc_cipher_of_openssh(self, make_key, tmp_path):
        path, public = make_key("ssh-keygen", "rsa", "OPENSSH")
        other = tmp_path / "key"
        other.write_bytes(path.read_bytes())
        other.chmod(0o600)
        run("ssh-keygen", "-q", "-p", "-Z", "aes256-cbc", "-a", "1", "-P", "", "-N", PASSWORD, "-f", other)
        verify(public, ParsedPrivateKey.from_file(other, PASSWORD).sign(CHALLENGE), CHALLENGE)


@pytest.fixture(scope="session")
def primes(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int]:
    """Known primes of 4096 bits each (RFC 3526, RFC 7919), since finding such takes openssl a long time."""

    def prime(group: str) -> int:
        path = tmp_path_factory.mktemp("primes") / group
        run(
            *("openssl", "genpkey", "-genparam", "-algorithm", "DH"),
            *("-pkeyopt", f"group:{group}", "-out", path),
        )
        _sequence, number, *_ = run("openssl", "asn1parse", "-in", path).splitlines()
        return int(number.rpartition(":")[2], 16)

    return prime("modp_4096"), prime("ffdhe4096")


class TestRSASizes:
    @staticmethod
    def key_of(p: int, q: int) -> rsa.RSAPrivateKey:
        d = pow(65537, -1, (p - 1) * (q - 1))
        numbers = rsa.RSAPrivateNumbers(
            p=p,
            q=q,
            d=d,
            dmp1=d % (p - 1),
            dmq1=d % (q - 1),
            iqmp=pow(q, -1, p),
            public_numbers=rsa.RSAPublicNumbers(65537, p * q),
        )
        return numbers.private_key(unsafe_skip_rsa_key_validation=True)

    @staticmethod
    def text_of(key: rsa.RSAPrivateKey, file_format: serialization.PrivateFormat) -> bytes:
        return key.private_bytes(serialization.Encoding.PEM, file_format, serialization.NoEncryption())

    def test_8192_bits_are_accepted(self, primes):
        made = self.key_of(*primes)
        assert made.key_size == 8192
        key = ParsedPrivateKey.parse(self.text_of(made, serialization.PrivateFormat.OpenSSH))
        verify(made.public_key(), key.sign(CHALLENGE), CHALLENGE)

    @pytest.mark.parametrize("file_format", ["OpenSSH", "PKCS8"])
    def test_8193_bits_are_refused(self, primes, file_format):
        # The second number is no prime: a key of that size is refused before anybody checks.
        made = self.key_of(primes[0], 3 * 2**4095 + 1)
        assert made.key_size == 8193
        text = self.text_of(made, getattr(serialization.PrivateFormat, file_format))
        assert "RSA (of 8193 bits, which is too large)" in str(refusal(text))

    @pytest.mark.parametrize("file_format", ["PEM", "PKCS8"])
    def test_2047_bits_are_refused(self, make_key, file_format):
        path, _ = make_key("openssl", "rsa2047", file_format)
        error = str(refusal(path.read_text()))
        assert "RSA (of 2047 bits, which is too weak)" in error
        assert "RSA of 2048 to 8192 bits" in error

    @pytest.mark.parametrize("encrypted", [False, True])
    def test_1024_bits_are_refused(self, make_key, encrypted):
        path, _ = make_key("ssh-keygen", "rsa1024", "OPENSSH", encrypted)
        assert "RSA (of 1024 bits, which is too weak)" in str(refusal(path.read_text(), PASSWORD))

    def test_a_header_that_claims_another_size(self, make_key):
        path, _ = make_key("ssh-keygen", "rsa1024", "OPENSSH")
        data = base64.b64decode("".join(path.read_text().splitlines()[1:-1]))
        claimed = base64.b64decode("".join(openssh_file(b"ssh-rsa", 65537, 2**3071).splitlines()[1:-1]))
        (length,) = struct.unpack_from(">I", data, 39)  # of the public key, behind the magic and "none"s
        assert data[43:].startswith(b"\0\0\0\x07ssh-rsa")
        forged = claimed[: -4 - 64] + data[43 + length :]
        text = f"{OPENSSH}\n{base64.encodebytes(forged).decode()}-----END OPENSSH PRIVATE KEY-----\n"
        error = refusal(text)
        assert "it is damaged" in str(error)
        assert str(error.__cause__) == "the public and the private key in the file don't belong together"


class TestRefusedKinds:
    @pytest.mark.parametrize(
        ("generator", "kind", "file_format", "name"),
        [
            ("ssh-keygen", "p521", "OPENSSH", "ECDSA P-521"),
            ("ssh-keygen", "p521", "PEM", "ECDSA P-521"),
            ("openssl", "p521", "PKCS8", "ECDSA P-521"),
            ("openssl", "secp256k1", "PEM", "ECDSA secp256k1"),
            ("openssl", "secp256k1", "PKCS8", "ECDSA secp256k1"),
            ("openssl", "ed448", "PKCS8", "Ed448"),
            ("openssl", "x25519", "PKCS8", "X25519"),
        ],
    )
    def test_refused(self, make_key, generator, kind, file_format, name):
        path, _ = make_key(generator, kind, file_format)
        error = str(refusal(path.read_text()))
        assert f"does not accept this kind of private key: {name}." in error
        assert "`ssh-keygen -t ed25519` makes one" in error

    def test_encrypted_p521_with_its_password(self, make_key):
        path, _ = make_key("ssh-keygen", "p521", "PEM", encrypted=True)
        assert "private key: ECDSA P-521." in str(refusal(path.read_text(), PASSWORD))

    def test_dsa(self, tmp_path):
        run("openssl", "dsaparam", "-genkey", "-noout", "-out", tmp_path / "dsa", "1024")
        pkcs8 = run("openssl", "pkey", "-in", tmp_path / "dsa")
        traditional = run("openssl", "pkey", "-in", tmp_path / "dsa", "-traditional")
        assert traditional.startswith("-----BEGIN DSA PRIVATE KEY-----")
        for text in (pkcs8, traditional, openssh_file(b"ssh-dss")):
            assert "private key: DSA." in str(refusal(text))

    @pytest.mark.parametrize("key_type", [b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"])
    def test_security_keys(self, key_type):
        assert "private key: security key." in str(refusal(openssh_file(key_type)))


class TestNoPrivateKeyAtAll:
    @pytest.mark.parametrize("text", ["", " \r\n\n", b"", b"\n"])
    def test_empty(self, text):
        assert str(refusal(text)).startswith("the private key is empty")

    @pytest.mark.parametrize("kind", list(ALGORITHMS))
    def test_public_key_line(self, make_key, kind):
        path, _ = make_key("ssh-keygen", kind, "OPENSSH")
        error = str(refusal(Path(f"{path}.pub").read_text()))
        assert error.startswith("this is a public key: give the private key")
        assert "without '.pub'" in error

    def test_public_key_in_pem(self, make_key):
        path, _ = make_key("openssl", "p256", "PKCS8")
        text = run("openssl", "pkey", "-in", path, "-pubout")
        assert text.startswith("-----BEGIN PUBLIC KEY-----")
        assert str(refusal(text)).startswith("this is a public key")

    def test_public_key_as_exported_by_ssh_keygen(self, make_key):
        path, _ = make_key("ssh-keygen", "ed25519", "OPENSSH")
        text = run("ssh-keygen", "-e", "-f", f"{path}.pub")
        assert "---- BEGIN SSH2 PUBLIC KEY ----" in text
        assert str(refusal(text)).startswith("this is a public key")

    def test_certificate(self, make_key):
        path, _ = make_key("openssl", "p256", "PKCS8")
        text = run("openssl", "req", "-x509", "-new", "-key", path, "-subj", "/CN=test")
        assert str(refusal(text)).startswith("this is a CERTIFICATE, not a private key")

    def test_putty(self):
        error = str(refusal("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: key\n"))
        assert "`puttygen FILE -O private-openssh -o NEWFILE`" in error

    def test_unknown_pem_type(self, make_key):
        path, _ = make_key("openssl", "p256", "PKCS8")
        text = path.read_text().replace("PRIVATE KEY", "FOO PRIVATE KEY")
        assert str(refusal(text)).startswith("the file format 'FOO PRIVATE KEY' is not known")

    @pytest.mark.parametrize("text", ["~/.ssh/id_ed25519", "hello\nworld\n", bytes(range(256)), "\ud800"])
    def test_something_else(self, text):
        assert "there is no line '-----BEGIN ... PRIVATE KEY-----'" in str(refusal(text))


class TestDamagedFiles:
    @pytest.mark.parametrize(("generator", "kind", "file_format", "first_line", "_"), FILES)
    def test_cut_off(self, make_key, generator, kind, file_format, first_line, _):
        lines = make_key(generator, kind, file_format).path.read_text().splitlines(keepends=True)
        assert str(refusal("".join(lines[:-1]))).startswith("the private key is cut off")

    @pytest.mark.parametrize(("generator", "kind", "file_format", "first_line", "_"), FILES)
    def test_a_line_missing(self, make_key, generator, kind, file_format, first_line, _):
        lines = make_key(generator, kind, file_format).path.read_text().splitlines(keepends=True)
        error = refusal("".join(lines[:1] + lines[2:]))
        assert str(error).startswith("the private key can't be read: it is damaged")
        assert error.__cause__ is not None
        assert error.__cause__.__traceback__ is None

    @pytest.mark.parametrize("body", ["", "\n", "AAAA", "=", "%%%%", "é\ud800"])
    @pytest.mark.parametrize("first_line", [OPENSSH, PKCS1, SEC1, PKCS8])
    def test_nonsense_between_the_lines(self, first_line, body):
        error = refusal(f"{first_line}\n{body}\n{first_line.replace('BEGIN', 'END')}\n")
        assert str(error).startswith("the private key can't be read: it is damaged")

    def test_unknown_type_in_openssh_format(self):
        assert "it is damaged, or of a kind that is not accepted" in str(refusal(openssh_file(b"ssh-foo")))

    def test_a_header_that_promises_what_does_not_follow(self):
        assert "it is damaged" in str(refusal(openssh_file(b"ssh-ed25519")))
        assert "is encrypted" in str(refusal(openssh_file(b"ssh-ed25519", cipher=b"aes256-ctr")))
        for cipher in (b"aes256-ctr", b"aes256-gcm@openssh.com", b"\xff"):
            error = refusal(openssh_file(b"ssh-ed25519", cipher=cipher), PASSWORD)
            assert str(error).startswith("wrong password for the private key; if it is the right one")

    def test_a_cipher_that_cannot_be_read(self, make_key, tmp_path):
        path, _ = make_key("openssl", "rsa", "PKCS8")
        text = run("openssl", "pkey", "-in", path, "-aes192", "-passout", f"pass:{PASSWORD}", "-traditional")
        other = tmp_path / "key"
        other.write_text(text)
        other.chmod(0o600)
        error = str(refusal(text, PASSWORD))
        assert "encrypted with a cipher that can't be read: `ssh-keygen -p -f FILE`" in error
        # The hint helps.
        run("ssh-keygen", "-q", "-p", "-a", "1", "-P", PASSWORD, "-N", PASSWORD, "-f", other)
        assert ParsedPrivateKey.from_file(other, PASSWORD).algorithm == "ssh-rsa"

    @pytest.mark.parametrize(
        ("generator", "kind", "file_format"),
        [
            ("ssh-keygen", "ed25519", "OPENSSH"),
            ("ssh-keygen", "p256", "OPENSSH"),
            ("ssh-keygen", "p256", "PEM"),
            ("openssl", "ed25519", "PKCS8"),
            ("openssl", "p256", "PKCS8"),
        ],
    )
    def test_any_damage_is_told_or_harmless(self, make_key, generator, kind, file_format):
        path, public = make_key(generator, kind, file_format)
        whole = path.read_bytes()
        body = "".join(path.read_text().splitlines()[1:-1])
        snippets = {body[at : at + 12] for at in range(len(body) - 11)}

        @settings(max_examples=150, deadline=None, database=None)
        @given(
            start=st.integers(0, len(whole) - 1),
            length=st.integers(0, 8),
            replacement=st.one_of(st.binary(max_size=8), st.text("AQgw/+=9\n", max_size=8).map(str.encode)),
        )
        @example(start=0, length=0, replacement=b"")
        def check(start: int, length: int, replacement: bytes) -> None:
            damaged = whole[:start] + replacement + whole[start + length :]
            try:
                key = ParsedPrivateKey.parse(damaged)
            except InvalidKeyError as error:
                told = f"{error!r} {error.__cause__!r}"
                assert not any(snippet in told for snippet in snippets)
            else:
                if (kind, file_format) == ("ed25519", "PKCS8"):
                    assert len(key.sign(CHALLENGE)) == 64  # holds no public key, so any 32 bytes are a key
                else:
                    verify(public, key.sign(CHALLENGE), CHALLENGE)

        check()


class TestTexts:
    def test_what_stands_around_the_key_does_not_matter(self, make_key):
        path, public = make_key("ssh-keygen", "p256", "PEM")
        text = path.read_text()
        parameters = run("openssl", "ecparam", "-name", "prime256v1")
        assert parameters.startswith("-----BEGIN EC PARAMETERS-----")
        variants: list[str | bytes] = [
            parameters + text,
            "\ufeff" + text,
            "Schlüssel für Pie: geheim\n" + text + "remark: done\n",
            ("Schlüssel für Pie\n" + text).encode("latin-1"),
            text.replace("\n", "\r\n"),
            "\n".join("    " + line for line in text.splitlines()),
            text.rstrip("\n"),
            text + run("openssl", "genpkey", "-algorithm", "ed25519"),
        ]
        for variant in variants:
            verify(public, ParsedPrivateKey.parse(variant).sign(CHALLENGE), CHALLENGE)

    def test_headers_of_an_encrypted_file_with_crlf(self, make_key):
        path, public = make_key("openssl", "rsa", "PEM", encrypted=True)
        text = path.read_text().replace("\n", "\r\n")
        verify(public, ParsedPrivateKey.parse(text, PASSWORD).sign(CHALLENGE), CHALLENGE)

    @pytest.mark.parametrize("text", [None, 5, Path("key"), ["-----BEGIN"]])
    def test_wrong_type_of_text(self, text):
        with pytest.raises(TypeError, match=r"text must be str or bytes, not \w+; for a path there is from_file"):
            ParsedPrivateKey.parse(text)

    @pytest.mark.parametrize("password", [5, ["secret"], bytearray(b"secret")])
    def test_wrong_type_of_password(self, make_key, password):
        path, _ = make_key("ssh-keygen", "ed25519", "OPENSSH")
        for load in (ParsedPrivateKey.parse, ParsedPrivateKey.from_file):
            argument = path.read_text() if load == ParsedPrivateKey.parse else path
            with pytest.raises(TypeError, match="password must be str or bytes, not") as caught:
                load(argument, password)
            assert "secret" not in str(caught.value)


class TestFiles:
    def test_home_directory(self, make_key, tmp_path, monkeypatch):
        path, public = make_key("ssh-keygen", "ed25519", "OPENSSH")
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "id_ed25519").write_bytes(path.read_bytes())
        (tmp_path / ".ssh" / "id_ed25519").chmod(0o600)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        for name in ("~/.ssh/id_ed25519", Path("~/.ssh/id_ed25519")):
            verify(public, ParsedPrivateKey.from_file(name).sign(CHALLENGE), CHALLENGE)

    def test_not_found(self, tmp_path):
        with pytest.raises(FileNotFoundError) as caught:
            ParsedPrivateKey.from_file(tmp_path / "none")
        assert caught.value.filename == str(tmp_path / "none")

    def test_a_folder(self, tmp_path):
        with pytest.raises(OSError, match=r"directory|denied"):
            ParsedPrivateKey.from_file(tmp_path)

    def test_a_refusal_names_the_file_and_keeps_the_cause(self, make_key):
        path, _ = make_key("ssh-keygen", "ed25519", "OPENSSH", encrypted=True)
        with pytest.raises(InvalidKeyError) as caught:
            ParsedPrivateKey.from_file(path, "wrong")
        assert str(caught.value).startswith(f"{path}: wrong password for the private key")
        assert caught.value.__cause__ is not None
        assert isinstance(caught.value, PieError)
        assert isinstance(caught.value, ValueError)

    def test_a_large_file(self, tmp_path):
        path = tmp_path / "disk.img"
        path.write_bytes(bytes(1024 * 1024 + 1))
        with pytest.raises(InvalidKeyError, match="larger than 1 MiB"):
            ParsedPrivateKey.from_file(path)
        path.write_bytes(bytes(1024 * 1024))
        with pytest.raises(InvalidKeyError, match="there is no line"):
            ParsedPrivateKey.from_file(path)

    @pytest.mark.parametrize("path", [None, 0, b"key"])
    def test_wrong_type(self, path):
        with pytest.raises(TypeError, match=r"path|os\.PathLike"):
            ParsedPrivateKey.from_file(path)


class TestSigning:
    @pytest.fixture(params=list(ALGORITHMS))
    def made(self, request: pytest.FixtureRequest, make_key: KeyMaker) -> MadeKey:
        return make_key("ssh-keygen", request.param, "OPENSSH")

    @pytest.mark.parametrize("data", [b"", b"\0", bytes(64), b"x" * 1_000_000], ids=len)
    def test_any_length(self, made, data):
        verify(made.public, ParsedPrivateKey.from_file(made.path).sign(data), data)

    @pytest.mark.parametrize("data", [bytearray(CHALLENGE), memoryview(CHALLENGE), memoryview(CHALLENGE * 2)[::2]])
    def test_bytes_like(self, made, data):
        verify(made.public, ParsedPrivateKey.from_file(made.path).sign(data), bytes(data))

    @pytest.mark.parametrize("data", [None, 5, "text", [1, 2]])
    def test_wrong_type(self, made, data):
        with pytest.raises(TypeError, match="bytes-like"):
            ParsedPrivateKey.from_file(made.path).sign(data)

    def test_the_signature_is_of_the_data(self, made):
        signature = ParsedPrivateKey.from_file(made.path).sign(CHALLENGE)
        with pytest.raises(InvalidSignature):
            verify(made.public, signature, CHALLENGE[::-1])

    def test_raw_form(self, made):
        key = ParsedPrivateKey.from_file(made.path)
        for _ in range(20):  # the numbers of an ECDSA signature vary in length
            signature = key.sign(CHALLENGE)
            verify(made.public, signature, CHALLENGE)
            if key.algorithm == "ssh-rsa":
                assert len(signature) == 256
            elif key.algorithm == "ssh-ed25519":
                assert len(signature) == 64
            else:
                assert signature[0] == 0x30  # SEQUENCE
                assert signature[1] == len(signature) - 2

    def test_many_threads(self, made):
        key = ParsedPrivateKey.from_file(made.path)
        start = threading.Barrier(8, timeout=30)
        verified: list[int] = []

        def work(number: int) -> None:
            start.wait()
            for turn in range(10):
                data = b"%d %d" % (number, turn)
                verify(made.public, key.sign(data), data)
            verified.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(verified) == list(range(8))


class TestTheObject:
    @pytest.fixture
    def key(self, make_key: KeyMaker) -> ParsedPrivateKey:
        return ParsedPrivateKey.from_file(make_key("ssh-keygen", "ed25519", "OPENSSH").path)

    @pytest.mark.parametrize("kind", list(ALGORITHMS))
    def test_repr(self, make_key, kind):
        key = ParsedPrivateKey.from_file(make_key("ssh-keygen", kind, "OPENSSH").path)
        expected = f"<ParsedPrivateKey {ALGORITHMS[kind]} {key.fingerprint}>"
        assert repr(key) == str(key) == f"{key}" == expected

    @pytest.mark.parametrize("name", ["algorithm", "fingerprint", "password"])
    def test_immutable(self, key, name):
        with pytest.raises(AttributeError):
            setattr(key, name, "x")

    def test_made_only_by_its_class_methods(self):
        with pytest.raises(TypeError, match=r"from_file\(path\) or ParsedPrivateKey.parse\(text\)"):
            ParsedPrivateKey()

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_no_pickling(self, key, protocol):
        with pytest.raises(TypeError, match=r"load it there with ParsedPrivateKey.from_file\(path\)"):
            pickle.dumps(key, protocol)

    @pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy])
    def test_no_copying(self, key, make_copy):
        with pytest.raises(TypeError, match="can't be pickled or copied"):
            make_copy(key)


def test_importing_the_module_imports_no_cryptography():
    code = (
        "import sys, pie_sync.keys\n"
        "print([name for name in ('paramiko', 'cryptography', 'nacl', 'bcrypt') if name in sys.modules])"
    )
    root = Path(pie_sync.keys.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
