"""Raw signatures out of paramiko's keys, which sign the SSH way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from paramiko import Message, PKey

if TYPE_CHECKING:
    from ._agent import AgentKey

__all__ = ["sign_raw"]


def sign_raw(key: PKey | AgentKey, data: bytes) -> bytes:
    """Sign some bytes and take the signature out of its SSH wrapping (RFC 4253, section 6.6).

    Args:
        key: a private key.
        data: what to sign.

    Returns:
        RSA: PKCS#1 v1.5 with SHA-256. Ed25519: 64 bytes. ECDSA: ASN.1 DER of (r, s), made with SHA-256 on
        P-256 and with SHA-384 on P-384.
    """
    # Only RSA has a choice of algorithms (RFC 8332); the other kinds ignore the argument.
    wrapped = Message(key.sign_ssh_data(data, "rsa-sha2-256").asbytes())
    wrapped.get_binary()  # the name of the algorithm
    signature = wrapped.get_binary()
    if key.get_name().startswith("ecdsa-"):
        numbers = Message(signature)  # RFC 5656, section 3.1.2
        return encode_dss_signature(numbers.get_mpint(), numbers.get_mpint())
    return signature
