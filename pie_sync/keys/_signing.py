"""Raw signatures, as Pie's servers verify them, out of keys that sign the SSH way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ..errors import InvalidKeyError
from ._agent import AgentKey
from ._wire import WireReader

if TYPE_CHECKING:
    from paramiko import PKey

__all__ = ["sign_raw"]


def sign_raw(key: PKey | AgentKey, data: bytes) -> bytes:
    """Sign some bytes and take the signature out of its SSH wrapping (RFC 4253, section 6.6).

    Args:
        key: a private key, or one that an agent holds.
        data: what to sign.

    Returns:
        RSA: PKCS#1 v1.5 with SHA-256. Ed25519: 64 bytes. ECDSA: ASN.1 DER of (r, s), made with SHA-256 on
        P-256 and with SHA-384 on P-384.

    Raises:
        InvalidKeyError: an agent refuses, does not answer, or returns another kind of signature.
    """
    if isinstance(key, AgentKey):
        wrapped = key.sign_ssh_data(data)
    else:
        # Only RSA has a choice of algorithms (RFC 8332); the other kinds ignore the argument.
        wrapped = key.sign_ssh_data(data, "rsa-sha2-256").asbytes()
    name = key.get_name()
    try:
        return _unwrap(wrapped, "rsa-sha2-256" if name == "ssh-rsa" else name)
    except ValueError as error:
        raise InvalidKeyError(f"the signature of {key.fingerprint} can't be used: {error}") from error


def _unwrap(wrapped: bytes, expected: str) -> bytes:
    fields = WireReader(wrapped)
    algorithm = fields.string().decode("ascii", "replace")
    if algorithm != expected:
        # An agent that does not know RFC 8332 signs with ssh-rsa, which is SHA-1.
        raise ValueError(f"it is of the kind {algorithm!r}, not {expected!r}")
    signature = fields.string()
    if not expected.startswith("ecdsa-"):
        return signature
    numbers = WireReader(signature)  # RFC 5656, section 3.1.2
    return encode_dss_signature(numbers.mpint(), numbers.mpint())
