"""ParsedPrivateKey: the private key that authenticates a user."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, NoReturn

from ..errors import InvalidKeyError

if TYPE_CHECKING:
    from paramiko import PKey

    from ._agent import AgentKey

__all__ = ["ParsedPrivateKey"]

# Far more than any key needs: a wrong path (a disk image, /dev/zero) must not fill the memory.
_MAX_FILE_SIZE = 1024 * 1024


class ParsedPrivateKey:
    """A private key that Pie accepts: Ed25519, RSA of 2048 to 8192 bits, ECDSA on P-256 or P-384.

    Pie 0.3 and 0.4 take RSA keys of up to 4096 bits.

    :meth:`from_file` and :meth:`parse` load one in the OpenSSH format or in PEM (PKCS#8, PKCS#1, SEC1), encrypted
    or not; :meth:`from_agent` uses one that an SSH agent holds.

    A key is immutable, and any number of threads may sign with it at once. It can't be pickled or copied, so it
    stays in its process, and its ``repr`` shows nothing secret.
    """

    __slots__ = ("__weakref__", "_key")

    _key: PKey | AgentKey

    def __init__(self) -> None:
        raise TypeError("make a key with ParsedPrivateKey.from_file(path) or ParsedPrivateKey.parse(text)")

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        password: str | bytes | None = None,
        *,
        strict_permissions: bool = False,
    ) -> ParsedPrivateKey:
        """Load a private key from a file. Warns (``UserWarning``) if other users can read the file.

        Blocks while the file is read, and then as long as :meth:`parse`.

        Args:
            path: the path of the file; a leading ``~`` is the home directory.
            password: as for :meth:`parse`.
            strict_permissions: refuse a file that other users can read, as ``ssh`` does.

        Returns:
            The key.

        Raises:
            InvalidKeyError: as for :meth:`parse`, or other users can read the file and ``strict_permissions`` is
                set; the text names the file.
            OSError: the file can't be read, such as ``FileNotFoundError``.
        """
        filename = os.path.expanduser(os.fspath(path))
        if not isinstance(filename, str):
            raise TypeError("path must be str or os.PathLike[str], not bytes")
        _password_bytes(password)  # refuses a wrong type before the file is touched
        if "\0" in filename:
            raise InvalidKeyError(f"{filename!r} can't be a path: there is a null byte in it")
        with open(filename, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MAX_FILE_SIZE + 1)
        try:
            if len(content) > _MAX_FILE_SIZE:
                raise InvalidKeyError("this is not a private key: the file is larger than 1 MiB")
            key = cls.parse(content, password)
        except InvalidKeyError as error:
            error.args = (f"{filename}: {error}",)
            raise
        if os.name == "posix" and mode & 0o077:
            text = f"{filename}: others can read this private key; make it yours alone: chmod 600 {filename}"
            if strict_permissions:
                raise InvalidKeyError(text)
            warnings.warn(text, UserWarning, stacklevel=2)
        return key

    @classmethod
    def parse(cls, text: str | bytes, password: str | bytes | None = None) -> ParsedPrivateKey:
        """Load a private key from the text of a key file.

        Blocks for CPU time only: about 0.1 s for an encrypted key (its key derivation decides), and 0.05 s (2048
        bits), 0.3 s (4096) or 5 s (8192) for checking the primes of an RSA key. That check holds up the other
        threads of the process as well, so load a large key before time counts.

        Args:
            text: the content of the key file. The first private key in it is loaded.
            password: the password of the key; a str is encoded as UTF-8, an empty one is no password. Ignored when
                the key is not encrypted, as ``ssh`` does.

        Returns:
            The key.

        Raises:
            InvalidKeyError: the key can't be read (damaged, a public key, a missing or wrong password) or Pie
                does not accept its kind or size; the text tells which, and what helps.
        """
        if isinstance(text, bytes):
            text = text.decode("ascii", "replace")  # remarks beside the key may be in any encoding
        elif not isinstance(text, str):
            raise TypeError(
                f"text must be str or bytes, not {type(text).__name__}; for a path there is from_file()"
            )
        from ._loading import load_private_key  # noqa: PLC0415 - imports paramiko, which takes 0.3 s

        self = object.__new__(cls)
        self._key = load_private_key(text, _password_bytes(password))
        return self

    @classmethod
    def from_agent(cls, fingerprint: str | None = None) -> ParsedPrivateKey:
        """Use a key that an SSH agent (``ssh-agent``) holds. The private key never enters this process.

        Blocks until the agent answers, for 10 s at the most. On Windows, where paramiko makes the connection to
        OpenSSH's agent or to Pageant, there is no such limit.

        Keys of the agent that can't be read, or that Pie does not accept, are skipped.

        Args:
            fingerprint: the fingerprint of the key, as ``ssh-add -l`` prints it (``"SHA256:…"``). None takes the
                first key that Pie accepts.

        Returns:
            The key.

        Raises:
            InvalidKeyError: there is no agent (``SSH_AUTH_SOCK`` says where it is), or it has no such key, or it
                refuses, hangs up, does not answer in time, or sends what can't be read.
        """
        if fingerprint is not None and not isinstance(fingerprint, str):
            raise TypeError(f"fingerprint must be str or None, not {type(fingerprint).__name__}")
        from ._agent import find_agent_key  # noqa: PLC0415 - imports cryptography, which takes 0.1 s

        self = object.__new__(cls)
        self._key = find_agent_key(fingerprint)
        return self

    @property
    def algorithm(self) -> str:
        """The name of the key's type in SSH.

        One of ``"ssh-ed25519"``, ``"ssh-rsa"``, ``"ecdsa-sha2-nistp256"`` and ``"ecdsa-sha2-nistp384"``.
        """
        return self._key.get_name()

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the public key, as ``ssh-keygen -l`` prints it: ``"SHA256:…"``."""
        return self._key.fingerprint

    def sign(self, data: bytes | bytearray | memoryview) -> bytes:
        """Sign some bytes.

        The method signs any bytes. A server's challenge could be something else in disguise, such as an SSH login,
        so the caller has to check its length first, as ``PieClient.authenticate`` does.

        Blocks for CPU time only: about a millisecond, up to 0.05 s for the largest RSA keys. A key of an SSH agent
        blocks until the agent answers, for 120 s at the most (without a limit on Windows): the agent may ask its
        user. Such keys have a connection to the agent for each signature.

        Args:
            data: the bytes to sign, any bytes-like object.

        Returns:
            The raw signature, as Pie's servers verify it. RSA: PKCS#1 v1.5 with SHA-256. Ed25519: 64 bytes.
            ECDSA: ASN.1 DER of (r, s), with SHA-256 on P-256 and with SHA-384 on P-384.

        Raises:
            InvalidKeyError: the agent that holds the key does not have it any more, refuses, hangs up, does not
                answer in time, or returns another kind of signature than Pie's servers verify.
        """
        from ._signing import sign_raw  # noqa: PLC0415 - imports paramiko, as parse() did

        # Through memoryview, since bytes(5) would be five zeros.
        return sign_raw(self._key, memoryview(data).tobytes())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.algorithm} {self.fingerprint}>"

    def __reduce__(self) -> NoReturn:
        # The copy module calls this as well.
        raise TypeError(
            "a private key can't be pickled or copied: pass its path to the other process and load it there "
            "with ParsedPrivateKey.from_file(path); within a process, share the key, which is immutable"
        )


def _password_bytes(password: str | bytes | None) -> bytes | None:
    if password is None or isinstance(password, bytes):
        return password
    if not isinstance(password, str):
        raise TypeError(f"password must be str or bytes, not {type(password).__name__}")
    # A password that was typed has no surrogates. A UnicodeEncodeError would hold the password.
    return password.encode("utf-8", "replace")
