"""Authentication: users with SSH keys, and the internal token."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Union

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from ...errors import PieValueError

__all__ = ["INTERNAL_USERNAME", "Login", "LoginAnswer", "Users"]

AUTHENTICATION_DISABLED = "Authenticated (Engine disabled authentication)"
INTERNAL_USERNAME = "internal"
CHALLENGE_SIZE = 48

PublicKey = Union[rsa.RSAPublicKey, ed25519.Ed25519PublicKey, ec.EllipticCurvePublicKey]


class LoginAnswer(NamedTuple):
    """The answer to a step of the login."""

    successful: bool
    text: str
    challenge: bool = False
    """Whether ``text`` is a challenge in base64."""


class Users:
    """The accounts of a server.

    Args:
        keys: OpenSSH public key lines by user name, as one str or several; None disables authentication.
        internal_token: the token that :meth:`Login.by_token` accepts; None accepts none.
        largest_rsa: the most bits that an RSA key may have.

    Raises:
        ValueError: a line is not a public key of a supported type.
    """

    def __init__(
        self,
        keys: Mapping[str, str | Iterable[str]] | None,
        internal_token: str | None,
        largest_rsa: int = 8192,
    ) -> None:
        self._keys: dict[str, list[PublicKey]] | None = None
        if keys is not None:
            self._keys = {name: _load_lines(name, lines, largest_rsa) for name, lines in keys.items()}
        self._internal_token = internal_token

    @property
    def authentication_disabled(self) -> bool:
        """Whether every user name is accepted without a signature."""
        return self._keys is None

    def knows(self, username: str) -> bool:
        """Whether the user exists."""
        return self._keys is None or username in self._keys

    def verify(self, username: str, challenge: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is a signature of ``challenge`` by one of the user's keys."""
        return any(_verifies(key, challenge, signature) for key in (self._keys or {}).get(username, ()))

    def accepts_token(self, token: str) -> bool:
        """Whether ``token`` is the internal token."""
        expected = self._internal_token
        return expected is not None and hmac.compare_digest(expected.encode(), token.encode())


class Login:
    """The authentication of one connection. Not thread-safe.

    Attributes:
        username: the authenticated user; None before.
    """

    def __init__(self, users: Users) -> None:
        self.username: str | None = None
        self._users = users
        self._claimed: str | None = None
        self._challenge = b""

    @property
    def is_challenged(self) -> bool:
        """Whether a challenge waits for its signature."""
        return self._claimed is not None

    def identify(self, username: str) -> LoginAnswer:
        """Accept the user name if authentication is disabled; otherwise answer with a challenge."""
        if self._users.authentication_disabled:
            self.username = username
            return LoginAnswer(True, AUTHENTICATION_DISABLED)
        if not self._users.knows(username):
            return LoginAnswer(False, f"User '{username}' is not authorized")
        self._claimed = username
        self._challenge = secrets.token_bytes(CHALLENGE_SIZE)
        return LoginAnswer(True, base64.b64encode(self._challenge).decode(), challenge=True)

    def prove(self, signature: str) -> LoginAnswer:
        """Check the signature (base64) of the last challenge. Each challenge can be used once."""
        username, self._claimed = self._claimed, None
        if username is None:
            return LoginAnswer(False, "No pending authentication")
        try:
            decoded = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            return LoginAnswer(False, "The signature is not base64")
        if not self._users.verify(username, self._challenge, decoded):
            return LoginAnswer(False, "Signature verification failed")
        self.username = username
        return LoginAnswer(True, "Authenticated")

    def by_token(self, token: str) -> LoginAnswer:
        """Check the internal token."""
        if not self._users.accepts_token(token):
            return LoginAnswer(False, "Invalid token")
        self.username = INTERNAL_USERNAME
        return LoginAnswer(True, "Authenticated")


def _load_lines(username: str, lines: str | Iterable[str], largest_rsa: int) -> list[PublicKey]:
    texts = [lines] if isinstance(lines, str) else lines
    stripped = [line.strip() for text in texts for line in text.splitlines()]
    return [_load_line(username, line, largest_rsa) for line in stripped if line and not line.startswith("#")]


def _load_line(username: str, line: str, largest_rsa: int) -> PublicKey:
    try:
        key = load_ssh_public_key(line.encode())
    except Exception as error:  # cryptography raises several types, also its own
        raise PieValueError(f"user {username!r}: not an OpenSSH public key line ({error})") from error
    if isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= largest_rsa:
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1"):
        return key
    raise PieValueError(
        f"user {username!r}: a key must be RSA of 2048 to {largest_rsa} bits, Ed25519, or ECDSA P-256 or P-384"
    )


def _verifies(key: PublicKey, message: bytes, signature: bytes) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            digest = hashes.SHA256() if key.curve.name == "secp256r1" else hashes.SHA384()
            key.verify(signature, message, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    return True
