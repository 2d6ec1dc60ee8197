"""The kinds and sizes of keys that Pie accepts, from a file or from an agent."""

from __future__ import annotations

from ..errors import InvalidKeyError

__all__ = ["ACCEPTED_TYPES", "check_rsa_size", "not_accepted"]

#: SSH's names of the accepted types of keys.
ACCEPTED_TYPES = frozenset({"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"})

_MIN_RSA_BITS = 2048
_MAX_RSA_BITS = 8192


def check_rsa_size(bits: int) -> None:
    """Raise ``InvalidKeyError`` unless Pie accepts RSA keys of so many bits."""
    if bits < _MIN_RSA_BITS:
        raise not_accepted(f"RSA (of {bits} bits, which is too weak)")
    if bits > _MAX_RSA_BITS:
        raise not_accepted(f"RSA (of {bits} bits, which is too large)")


def not_accepted(kind: str) -> InvalidKeyError:
    """Return the error for a private key of a kind that Pie does not accept. Its text names those it does."""
    return InvalidKeyError(
        f"Pie does not accept this kind of private key: {kind}. Use Ed25519 (`ssh-keygen -t ed25519` makes "
        f"one), RSA of {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits (Pie 0.3 and 0.4: up to 4096), or ECDSA on P-256 or"
        " P-384"
    )
