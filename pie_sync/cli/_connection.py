"""Connects and authenticates a client by the settings."""

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
from ._output import say
from ._settings import Settings

__all__ = ["KeyFile", "connect", "connected"]

CONNECT_TIMEOUT = 10.0  # seconds; --timeout may be less or more
PASSPHRASE_ATTEMPTS = 3


class _LockedError(Exception):
    """The server asks for a signature, and the passphrase of the key is not known yet."""


class KeyFile:
    """The user's key, read when a server asks for a signature: so nobody types a passphrase needlessly.

    Args:
        settings: which key it is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._passphrase: str | None = None
        self._loaded: ParsedPrivateKey | None = None

    def sign(self, data: bytes | bytearray | memoryview) -> bytes:
        """Sign a challenge. This is the only method of :class:`ParsedPrivateKey` that a client calls."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded.sign(data)

    def _load(self) -> ParsedPrivateKey:
        path = self._settings.key
        username = self._settings.username.value
        if path is None:
            raise Failure(
                f"the server asks {username!r} for a signature, but there is no private key:"
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
        """Ask for the passphrase until it is right, three times at most."""
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
                say("")
                raise Failure(
                    f"{self._settings.key}: the private key is encrypted, and no passphrase was given",
                    "--key FILE takes a key without one",
                ) from None
            try:
                self._loaded = self._load()
            except InvalidKeyError:
                if attempt == PASSPHRASE_ATTEMPTS:
                    raise
                say("That was not it.")
            else:
                return


@contextmanager
def connected(settings: Settings) -> Iterator[PieClient]:
    """Yield a connected and authenticated client, and close it at the end. Raises what :func:`connect` raises."""
    client = connect(settings, KeyFile(settings))
    try:
        yield client
    finally:
        client.close()


def connect(settings: Settings, key: KeyFile) -> PieClient:
    """Return a connected and authenticated client.

    Args:
        settings: which server, and who the user is.
        key: the user's key, which may have been unlocked for another server.

    Raises:
        Failure: there is no user name or no server, or the server asks for a key that is not there.
        PieError, PieConnectionError: the server refuses.
    """
    if not settings.username.value:
        raise Failure(settings.username.origin, "--username NAME says who you are")
    connect_timeout = CONNECT_TIMEOUT if settings.timeout_origin == "default" else settings.timeout
    client = PieClient(
        settings.uri.value,
        timeout=settings.timeout,
        connect_timeout=connect_timeout,
        identity=settings.identity.value,
    )
    try:
        _connect(client)
        try:
            _authenticate(client, settings, key)
        except _LockedError:
            # Typing takes longer than a server waits for a signature, so the client asks for another challenge.
            client.close()
            key.unlock()
            _connect(client)
            _authenticate(client, settings, key)
    except BaseException:
        client.close()
        raise
    return client


def _connect(client: PieClient) -> None:
    try:
        client.connect()
    except PieConnectionError as error:
        raise Failure(
            str(error), f"is {client.server_uri} right (--uri)? `pie-sync serve` starts a server to try things out"
        ) from error


def _authenticate(client: PieClient, settings: Settings, key: KeyFile) -> None:
    try:
        client.authenticate(settings.username.value, cast(ParsedPrivateKey, key))
    except AuthenticationError as error:
        shown = f", key from {settings.key_origin}" if settings.key else ""
        raise Failure(
            f"{error} (name from {settings.username.origin}{shown})",
            "--username NAME and --key FILE take others; the server must know the key's .pub file",
        ) from error
