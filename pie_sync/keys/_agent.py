"""Keys that an SSH agent holds: the agent signs, and the private key never enters this process.

This module speaks the agent's protocol (draft-miller-ssh-agent) over the Unix socket that ``SSH_AUTH_SOCK`` names.
paramiko's client of an agent is not used, except for its connection to the agents of Windows: it waits without a
limit, fails for all keys if one can't be read, and leaves its socket open when it fails.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from ..errors import InvalidKeyError
from ._accepted import ACCEPTED_TYPES, check_rsa_size
from ._library_errors import is_library_error
from ._wire import WireReader, pack_string, pack_uint32

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AgentKey", "find_agent_key"]

# The numbers of the protocol's messages, and the flag for RSA signatures with SHA-256.
_REQUEST_IDENTITIES, _IDENTITIES_ANSWER = 11, 12
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14
_RSA_SHA2_256 = 2

#: How long to wait for a list of keys, in seconds, connecting included.
_LIST_LIMIT = 10.0
#: How long to wait for a signature: the agent may have to ask its user, who may have to find a security token.
_SIGN_LIMIT = 120.0
#: The longest answer that is read. OpenSSH's own programs have the same limit.
_MAX_ANSWER = 256 * 1024
#: How long to wait before connecting again to an agent that has too many connections, in seconds.
_CONNECT_PAUSE = 0.01

_NO_AGENT_WITH_KEYS = (
    "there is no SSH agent with keys: start one (eval $(ssh-agent)) and add a key (ssh-add FILE);"
    " SSH_AUTH_SOCK says where it is"
)


class AgentKey:
    """The public half of a key whose private half an agent holds.

    Immutable. Each signature has a connection of its own, so that nothing is held open, or shared with a child
    that is forked, in between.
    """

    def __init__(self, blob: bytes, name: str) -> None:
        self._blob = blob
        self._name = name

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self._blob).digest()).decode().rstrip("=")

    def get_name(self) -> str:
        """SSH's name of the key's type."""
        return self._name

    def sign_ssh_data(self, data: bytes) -> bytes:
        """Let the agent sign; an RSA key with SHA-256.

        Blocks until the agent answers, for 120 s at the most: it may have to ask its user.

        Returns:
            The signature in its SSH wrapping, as the agent gave it.

        Raises:
            InvalidKeyError: the agent does not have the key any more, refuses, or does not answer.
        """
        request = pack_string(self._blob) + pack_string(data) + pack_uint32(_RSA_SHA2_256)
        kind, answer = _ask(bytes([_SIGN_REQUEST]) + request, _SIGN_LIMIT)
        if kind == _SIGN_RESPONSE:
            with _readable():
                return answer.string()
        # A refusal has no reason, so look whether the key is still there.
        if self._blob not in _list_keys():
            raise InvalidKeyError(
                f"the SSH agent has no key {self.fingerprint} any more: add it again with ssh-add"
            )
        raise InvalidKeyError(f"the SSH agent refuses to sign with {self.fingerprint}")


def find_agent_key(fingerprint: str | None) -> AgentKey:
    """Return the key of that fingerprint, or the first one that Pie accepts.

    Blocks until the agent answers, for 10 s at the most. Keys that can't be read are skipped.

    Raises:
        InvalidKeyError: there is no such key, or no agent, or the agent does not do its part.
    """
    blobs = _list_keys()
    if not blobs:
        raise InvalidKeyError(_NO_AGENT_WITH_KEYS)
    accepted = [key for key in map(_read_key, blobs) if key is not None]
    for key in accepted:
        if fingerprint is None or key.fingerprint == "SHA256:" + fingerprint.split(":", 1)[-1]:
            return key
    there = ", ".join(f"{key.fingerprint} ({key.get_name()})" for key in accepted) or "none that is accepted"
    raise InvalidKeyError(
        f"the SSH agent does not have {'a usable key' if fingerprint is None else fingerprint}; it has: {there}"
    )


def _list_keys() -> list[bytes]:
    """Return the public keys of all keys that the agent has, in its order. Blocks for 10 s at the most."""
    kind, answer = _ask(bytes([_REQUEST_IDENTITIES]), _LIST_LIMIT)
    if kind != _IDENTITIES_ANSWER:
        raise InvalidKeyError("the SSH agent refuses to list its keys")
    blobs = []
    with _readable():
        for _ in range(answer.uint32()):
            blobs.append(answer.string())
            answer.string()  # the comment, which may be in any encoding
    return blobs


def _read_key(blob: bytes) -> AgentKey | None:
    """Return the key of an agent, or None if it can't be read or Pie does not accept it."""
    try:
        name = WireReader(blob).string().decode("ascii")
        if name not in ACCEPTED_TYPES:
            return None
        public_key = load_ssh_public_key(f"{name} {base64.b64encode(blob).decode()}".encode())
        if isinstance(public_key, RSAPublicKey):
            check_rsa_size(public_key.key_size)
    except InvalidKeyError:
        return None
    except Exception as error:
        if not is_library_error(error):
            raise
        return None
    return AgentKey(blob, name)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InvalidKeyError(f"the answer of the SSH agent can't be read: {error}") from error


def _ask(request: bytes, seconds: float) -> tuple[int, WireReader]:
    """Send one request to the agent, over a connection of its own, and return the kind of its answer and the rest.

    Raises:
        InvalidKeyError: there is no agent, or it hangs up, or does not answer in time, or with nonsense.
    """
    deadline = time.monotonic() + seconds
    try:
        with contextlib.closing(_connect(deadline)) as connection:
            _send(connection, pack_string(request), deadline)
            length = int.from_bytes(_receive(connection, 4, deadline), "big")
            if not 1 <= length <= _MAX_ANSWER:
                raise InvalidKeyError(f"the SSH agent announces an answer of {length} bytes")
            answer = _receive(connection, length, deadline)
    except OSError as error:
        # The system's errors have a number, and a socket's timeout comes after the deadline. Everything else was
        # raised by a signal handler, and is not an error of the agent's.
        if error.errno is None and time.monotonic() < deadline:
            raise
        problem = f"it does not answer within {seconds:g} s" if error.errno is None else str(error)
        raise InvalidKeyError(f"the SSH agent can't be asked: {problem}") from error
    return answer[0], WireReader(answer[1:])


# A connection is a socket, or an object of paramiko's with the same send(), recv() and close().
if sys.platform == "win32":

    def _connect(deadline: float) -> Any:
        from paramiko.agent import get_agent_connection  # noqa: PLC0415 - costs 0.2 s

        connection = get_agent_connection()
        if connection is None:
            raise InvalidKeyError(_NO_AGENT_WITH_KEYS)
        return connection

    def _set_deadline(connection: Any, deadline: float) -> None:
        """Do nothing: neither the pipe of OpenSSH nor Pageant's window knows a limit."""

else:

    def _connect(deadline: float) -> socket.socket:
        path = os.environ.get("SSH_AUTH_SOCK")
        if not path:
            raise InvalidKeyError(_NO_AGENT_WITH_KEYS)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            while True:
                _set_deadline(connection, deadline)
                try:
                    connection.connect(path)
                except BlockingIOError:
                    # The agent's backlog is full, and no event tells when it has room.
                    time.sleep(_CONNECT_PAUSE)
                except OSError as error:
                    if "path too long" in str(error):  # raised by Python, without a number of the system's
                        raise InvalidKeyError(f"the SSH agent can't be asked: {error}: {path}") from error
                    raise
                else:
                    return connection
        except BaseException:
            connection.close()
            raise

    def _set_deadline(connection: socket.socket, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)


def _send(connection: Any, data: bytes, deadline: float) -> None:
    while data:
        _set_deadline(connection, deadline)
        data = data[connection.send(data) :]


def _receive(connection: Any, length: int, deadline: float) -> bytes:
    received = b""
    while len(received) < length:
        _set_deadline(connection, deadline)
        part = connection.recv(length - len(received))
        if not part:
            raise InvalidKeyError("the SSH agent hangs up without an answer")
        received += part
    return received
