"""From the settings to a client that is connected and authenticated."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from ..client import PieClient
from ..errors import AuthenticationError, InvalidKeyError, PieConnectionError
from ..keys import ParsedPrivateKey
from ._failures import Failure
from ._settings import Settings

__all__ = ["connected"]

CONNECT_TIMEOUT = 10.0  # seconds; --timeout may be less or more
PASSPHRASE_ATTEMPTS = 3


class _LockedError(Exception):
    """The key is wanted, and its passphrase is not known yet."""


class _KeyFile:
    """The user's key: read when a server wants a signature, so that nobody types a passphrase for nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._passphrase: str | None = None
        self._loaded: ParsedPrivateKey | None = None

    def sign(self, data: bytes | bytearray | memoryview) -> bytes:
        """Sign a challenge, as :meth:`ParsedPrivateKey.sign` does; it's all that a client asks of a key."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded.sign(data)

    def _load(self) -> ParsedPrivateKey:
        path = self._settings.key
        username = self._settings.username.value
        if path is None:
            raise Failure(
                f"the server wants {username!r} to prove who that is, but there is no private key:"
                f" {self._settings.key_origin}",
                "`ssh-keygen -t ed25519` makes one, --key FILE takes it; the server must know its .pub file",
            )
        try:
            return ParsedPrivateKey.from_file(path, self._passphrase)
        except InvalidKeyError as error:
            if self._passphrase is None and "is encrypted" in str(error):
                raise _LockedError from error
            raise

    def unlock(self) -> None:
        """Ask for the passphrase until it's the right one."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Failure(
                f"{self._settings.key}: the private key is encrypted, and there is no terminal to ask for its"
                " passphrase",
                "--key FILE takes a key without one",
            )
        for attempt in range(1, PASSPHRASE_ATTEMPTS + 1):
            try:
                self._passphrase = getpass.getpass(f"Passphrase for {self._settings.key}: ")
            except EOFError:
                sys.stderr.write("\n")
                raise Failure(
                    f"{self._settings.key}: the private key is encrypted, and no passphrase was given",
                    "--key FILE takes a key without one",
                ) from None
            try:
                self._loaded = self._load()
            except InvalidKeyError:
                if attempt == PASSPHRASE_ATTEMPTS:
                    raise
                sys.stderr.write("That was not it.\n")
            else:
                return


@contextmanager
def connected(settings: Settings) -> Iterator[PieClient]:
    """Connect and authenticate; close at the end.

    Raises:
        Failure: there is no server, or it wants a key that can't be had.
        PieError, PieConnectionError: the server refuses.
    """
    connect_timeout = CONNECT_TIMEOUT if settings.timeout_origin == "default" else settings.timeout
    client = PieClient(
        settings.uri.value,
        timeout=settings.timeout,
        connect_timeout=connect_timeout,
        identity=settings.identity.value,
    )
    key = _KeyFile(settings)
    try:
        _connect(client)
        try:
            _authenticate(client, settings, key)
        except _LockedError:
            # A person takes longer to type than a server waits for a signature: it's asked anew.
            client.close()
            key.unlock()
            _connect(client)
            _authenticate(client, settings, key)
        yield client
    finally:
        client.close()


def _connect(client: PieClient) -> None:
    try:
        client.connect()
    except PieConnectionError as error:
        raise Failure(
            str(error), f"is {client.server_uri} right (--uri)? `pie-sync serve` starts a server to try things out"
        ) from error


def _authenticate(client: PieClient, settings: Settings, key: _KeyFile) -> None:
    try:
        client.authenticate(settings.username.value, cast(ParsedPrivateKey, key))
    except AuthenticationError as error:
        shown = f", key from {settings.key_origin}" if settings.key else ""
        raise Failure(
            f"{error} (name from {settings.username.origin}{shown})",
            "--username NAME and --key FILE take others; the server must know the key's .pub file",
        ) from error
