"""Connects and authenticates a client by the settings."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from .._connection.settings import UserKey
from .._connection.validation import check_uri, is_on_this_machine
from .._texts.hints import in_a_shell
from ..client import PieClient
from ..errors import AuthenticationError, InvalidKeyError, PieConnectionError, PieValueError
from ..keys import ParsedPrivateKey
from ._failures import Failure
from ._output import DIM, say, styled
from ._settings import Settings

__all__ = ["KeyFile", "check_address", "connect", "connected"]

CONNECT_TIMEOUT = 10.0  # seconds; --timeout may be less or more
PASSPHRASE_ATTEMPTS = 3

#: For how many seconds a server on this machine may refuse connections, since it may be starting: as in
#: `pie-sync serve greet.py & pie-sync run greet`. What waits longer than the second number says so.
START_TIMEOUT = 1.5
NOTE_AFTER = 0.5
RETRY_PAUSE = 0.05

_pause = time.sleep


class _LockedError(Exception):
    """The server asks for a signature, and the passphrase of the key is not known yet."""


class KeyFile(UserKey):
    """The user's key. Its passphrase is asked for when it is needed: so nobody types one needlessly."""

    def load(self) -> ParsedPrivateKey:
        try:
            return super().load()
        except InvalidKeyError as error:
            if self._password is None and "is encrypted" in str(error):
                raise _LockedError from error
            raise

    def unlock(self) -> None:
        """Ask for the passphrase until it is right, three times at most."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Failure(
                f"{self._path}: the private key is encrypted, and there is no terminal to ask for its passphrase",
                "--key FILE takes a key without one",
            )
        for attempt in range(1, PASSPHRASE_ATTEMPTS + 1):
            try:
                self._password = getpass.getpass(f"Passphrase for {self._path}: ")
            except EOFError:
                say("")
                raise Failure(
                    f"{self._path}: the private key is encrypted, and no passphrase was given",
                    "--key FILE takes a key without one",
                ) from None
            try:
                self._loaded = self.load()
            except InvalidKeyError:
                if attempt == PASSPHRASE_ATTEMPTS:
                    raise
                say("That was not it.")
            else:
                return


@contextmanager
def connected(settings: Settings) -> Iterator[PieClient]:
    """Yield a connected and authenticated client, and close it at the end. Raises what :func:`connect` raises."""
    client = connect(settings, KeyFile(settings.client), start_timeout=START_TIMEOUT)
    try:
        yield client
    finally:
        client.close()


def connect(settings: Settings, key: KeyFile, *, start_timeout: float = 0) -> PieClient:
    """Return a connected and authenticated client.

    Args:
        settings: which server, and who the user is.
        key: the user's key, which may have been unlocked for another server.
        start_timeout: for how many seconds to try again if a server on this machine refuses the connection.

    Raises:
        Failure: there is no user name or no server, or the server asks for a key that is not there.
        PieError, PieConnectionError: the server refuses.
    """
    ours = settings.client
    if not ours.username.value:
        raise Failure(ours.username.origin, "--username NAME says who you are")
    check_address(*ours.uri)
    connect_timeout = CONNECT_TIMEOUT if settings.timeout_origin == "default" else settings.timeout
    client = PieClient(
        ours.uri.value,
        timeout=settings.timeout,
        connect_timeout=connect_timeout,
        identity=ours.identity.value,
    )
    try:
        _connect(client, settings, min(start_timeout, connect_timeout))
        try:
            _authenticate(client, settings, key)
        except _LockedError:
            # Typing takes longer than a server waits for a signature, so the client asks for another challenge.
            client.close()
            key.unlock()
            _connect(client, settings)
            _authenticate(client, settings, key)
    except BaseException:
        client.close()
        raise
    return client


def check_address(uri: str, origin: str) -> None:
    """Raise a :class:`Failure` unless a connection to an address may work.

    Args:
        uri: the address.
        origin: who gave it, such as an option.
    """
    try:
        check_uri(uri)
    except PieValueError as error:
        hint = "for example ws://127.0.0.1:8080 or wss://pie.example.org"
        if "://" not in uri and uri:
            hint = f"did you mean ws://{uri}?"
        # The text begins with the name of an argument of PieClient.
        raise Failure(f"{origin}: the address {error.text.partition(' ')[2]}", hint) from error


def _connect(client: PieClient, settings: Settings, start_timeout: float = 0) -> None:
    try:
        _connect_to_starting(client, start_timeout)
    except PieConnectionError as error:
        origin = settings.client.uri.origin
        told = {"default": " (the default address)", "--uri": ""}.get(origin, f" (address from {origin})")
        raise Failure(
            f"{error.text}{told}",
            in_a_shell(error.hint or f"is {client.server_uri} right? --uri takes another address"),
        ) from error


def _connect_to_starting(client: PieClient, start_timeout: float) -> None:
    """Connect, and try again if a server on this machine refuses the connection: it may be starting."""
    began = time.monotonic()
    has_told = False
    while True:
        try:
            client.connect()
        except PieConnectionError as error:
            waited = time.monotonic() - began
            is_refused = isinstance(error.__cause__, ConnectionRefusedError)
            if not is_refused or waited >= start_timeout or not is_on_this_machine(client.server_uri):
                raise
            if waited >= NOTE_AFTER and not has_told:
                has_told = True
                say(styled(f"[no server at {client.server_uri} yet; trying for {start_timeout:g} s]", DIM))
            _pause(RETRY_PAUSE)
        else:
            return


def _authenticate(client: PieClient, settings: Settings, key: KeyFile) -> None:
    ours = settings.client
    try:
        client.authenticate(ours.username.value, cast(ParsedPrivateKey, key))
    except AuthenticationError as error:
        if error.hint:
            raise
        shown = f", key from {ours.key_origin}" if ours.key else ""
        raise Failure(
            f"{error.text} (name from {ours.username.origin}{shown})",
            "--username NAME and --key FILE take others; the server must know the key's .pub file",
        ) from error
