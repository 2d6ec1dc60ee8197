"""Public keys in the format that a server takes."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def public_line(private_key: object, comment: str = "") -> str:
    """Return the OpenSSH public key line of a private key."""
    public = private_key.public_key()  # type: ignore[attr-defined]
    return (public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + " " + comment).strip()
