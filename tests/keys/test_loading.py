"""Private keys: every kind and file format, made by ssh-keygen and by openssl, checked by cryptography."""

from __future__ import annotations

import base64
import signal
import struct

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pie_sync.errors import InvalidKeyError
from pie_sync.keys import ParsedPrivateKey
from tests.keys.key_files import (
    ALGORITHMS,
    CHALLENGE,
    FILES,
    OPENSSH,
    PASSWORD,
    PKCS1,
    PKCS8,
    SEC1,
    fingerprint_by_ssh_keygen,
    openssh_file,
    refusal,
    run,
    verify,
)


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


class TestDamagedFiles:
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


class Watchdog(Exception):
    """What a signal handler of the user's may raise."""


@pytest.mark.parametrize("error", [TimeoutError("watchdog"), OSError("watchdog"), Watchdog("watchdog")], ids=repr)
def test_what_a_signal_handler_raises_passes_as_it_is(make_key, tmp_path, error):
    path, _ = make_key("ssh-keygen", "ed25519", "OPENSSH")
    slow = tmp_path / "key"
    slow.write_bytes(path.read_bytes())
    slow.chmod(0o600)
    # The key derivation takes half a second, and the libraries are imported before.
    run("ssh-keygen", "-q", "-p", "-a", "64", "-P", "", "-N", PASSWORD, "-f", slow)
    ParsedPrivateKey.from_file(path)

    def handler(number, frame):
        raise error

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(type(error), match="^watchdog$"):
            ParsedPrivateKey.from_file(slow, PASSWORD)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
