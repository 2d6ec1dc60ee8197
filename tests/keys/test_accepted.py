"""The kinds and sizes of keys that Pie accepts."""

from __future__ import annotations

import pytest

from pie_sync.errors import InvalidKeyError
from pie_sync.keys._accepted import check_rsa_size, not_accepted


@pytest.mark.parametrize("bits", [2048, 3072, 8192])
def test_rsa_sizes(bits):
    check_rsa_size(bits)


@pytest.mark.parametrize(
    ("bits", "text"), [(0, "too weak"), (2047, "too weak"), (8193, "too large"), (2**20, "too large")]
)
def test_refused_rsa_sizes(bits, text):
    with pytest.raises(InvalidKeyError, match=rf"RSA \(of {bits} bits, which is {text}\)\. Use Ed25519"):
        check_rsa_size(bits)


def test_the_error_names_what_is_accepted():
    assert str(not_accepted("DSA")) == (
        "Pie does not accept this kind of private key: DSA. Use Ed25519 (`ssh-keygen -t ed25519` makes one), "
        "RSA of 2048 to 8192 bits (Pie 0.3 and 0.4: up to 4096), or ECDSA on P-256 or P-384"
    )
