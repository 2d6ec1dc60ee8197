"""The private key is found in the text of a file, or the error tells what the text is instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from pie_sync.keys import ParsedPrivateKey
from tests.keys.key_files import ALGORITHMS, CHALLENGE, FILES, PASSWORD, refusal, run, verify


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

    @pytest.mark.parametrize(("generator", "kind", "file_format", "first_line", "_"), FILES)
    def test_cut_off(self, make_key, generator, kind, file_format, first_line, _):
        lines = make_key(generator, kind, file_format).path.read_text().splitlines(keepends=True)
        assert str(refusal("".join(lines[:-1]))).startswith("the private key is cut off")
