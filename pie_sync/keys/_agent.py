"""Keys that an SSH agent holds: it signs, and the private key never enters this process."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, cast

from paramiko import Agent, Message, SSHException

from ..errors import InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AgentKey", "find_agent_key"]

_ACCEPTED = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384")
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 8192


class AgentKey:
    """The public half of a key, and the way to the agent that has the other one.

    The agent is connected to for each signature anew, so that nothing is held open, or shared with a child that
    is forked, in between.
    """

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self._name = Message(blob).get_text()

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self._blob).digest()).decode().rstrip("=")

    def get_name(self) -> str:
        """SSH's name of the key's type."""
        return self._name

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> Message:
        """Let the agent sign, the SSH way. Blocks until it answers: it may have to ask its user.

        Raises:
            InvalidKeyError: it refuses, or does not have the key any more.
        """
        agent = Agent()
        try:
            for key in agent.get_keys():
                if key.blob == self._blob:
                    # Bytes, whatever the type stubs say.
                    return Message(cast("bytes", key.sign_ssh_data(data, algorithm)))
        except SSHException as error:
            raise InvalidKeyError(f"the SSH agent does not sign with {self.fingerprint}: {error}") from error
        finally:
            agent.close()
        raise InvalidKeyError(f"the SSH agent has no key {self.fingerprint} any more: add it again with ssh-add")


def find_agent_key(fingerprint: str | None) -> AgentKey:
    """Return the key of that fingerprint, or the first one that is accepted.

    Raises:
        InvalidKeyError: there is no such key, or no agent.
    """
    agent = Agent()
    try:
        blobs = [key.blob for key in agent.get_keys()]
    except SSHException as error:
        raise InvalidKeyError(f"the SSH agent can't be asked: {error}") from error
    finally:
        agent.close()
    if not blobs:
        raise InvalidKeyError(
            "there is no SSH agent with keys: start one (eval $(ssh-agent)) and add a key (ssh-add FILE);"
            " SSH_AUTH_SOCK says where it is"
        )
    accepted = list(_accepted(blobs))
    for key in accepted:
        if fingerprint is None or key.fingerprint == "SHA256:" + fingerprint.split(":", 1)[-1]:
            return key
    there = ", ".join(f"{key.fingerprint} ({key.get_name()})" for key in accepted) or "none that is accepted"
    raise InvalidKeyError(
        f"the SSH agent does not have {'a usable key' if fingerprint is None else fingerprint}; it has: {there}"
    )


def _accepted(blobs: list[bytes]) -> Iterator[AgentKey]:
    for blob in blobs:
        key = AgentKey(blob)
        if key.get_name() not in _ACCEPTED:
            continue
        if key.get_name() == "ssh-rsa":
            message = Message(blob)  # RFC 4253, section 6.6: name, e, n
            message.get_text(), message.get_mpint()
            if not _MIN_RSA_BITS <= message.get_mpint().bit_length() <= _MAX_RSA_BITS:
                continue
        yield key
