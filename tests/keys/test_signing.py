"""Signatures of every kind of key, checked by cryptography."""

from __future__ import annotations

import threading

import pytest
from cryptography.exceptions import InvalidSignature

from pie_sync.keys import ParsedPrivateKey
from tests.keys.key_files import ALGORITHMS, CHALLENGE, KeyMaker, MadeKey, verify


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
