"""The private key that proves to the server who you are."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, NoReturn

from ..errors import InvalidKeyError

if TYPE_CHECKING:
    from paramiko import PKey

    from ._agent import AgentKey

__all__ = ["ParsedPrivateKey"]

# Far more than any key needs, so that a wrong path (a disk image, /dev/zero) does not fill the memory.
_MAX_FILE_SIZE = 1024 * 1024


class ParsedPrivateKey:
    """A private key that Pie accepts: Ed25519, RSA of 2048 to 8192 bits, ECDSA on P-256 or P-384.

    Made by :meth:`from_file` or :meth:`parse`, from a file in the OpenSSH format or in PEM (PKCS#8, PKCS#1,
    SEC1), encrypted or not.

    A key never changes, and any number of threads may sign with it at once. It stays in its process: it can't
    be pickled or copied, and its ``repr`` shows nothing secret.
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
        """Load a private key from a file. Warns (``UserWarning``) if others can read it.

        Blocks while the file is read, and then as :meth:`parse`.

        Args:
            path: where the file is; a leading ``~`` is the home directory.
            password: as for :meth:`parse`.
            strict_permissions: refuse a file that others can read, as ``ssh`` does.

        Returns:
            The key.

        Raises:
            InvalidKeyError: as for :meth:`parse`, or others can read it; the text names the file.
            OSError: the file can't be read, such as ``FileNotFoundError``.
        """
        filename = os.path.expanduser(os.fspath(path))
        if not isinstance(filename, str):
            raise TypeError("path must be str or os.PathLike[str], not bytes")
        _password_bytes(password)  # a mistake of the caller's is told before the file is touched
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

        Blocks for CPU time only: 0.1 s or so for an encrypted file (whatever its key derivation demands), and
        for checking the primes of an RSA key from 0.05 s (2048 bits) by 0.3 s (4096) to 5 s (8192). That check
        holds up the other threads of the process, too: load a large key before time counts.

        Args:
            text: what the key file holds. The first private key in it counts.
            password: what the key is encrypted with; a str stands for its UTF-8 bytes, an empty one for none.
                Ignored when the key is not encrypted, as ``ssh`` does.

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
        from ._loading import load_private_key  # noqa: PLC0415 - costs 0.2 s, paid by who uses a key

        self = object.__new__(cls)
        self._key = load_private_key(text, _password_bytes(password))
        return self

    @classmethod
    def from_agent(cls, fingerprint: str | None = None) -> ParsedPrivateKey:
        """Use a key that an SSH agent holds (``ssh-agent``). The private key never enters this process.

        Blocks until the agent answers; so does each :meth:`sign`, for which the agent may ask its user.

        Args:
            fingerprint: which key, as ``ssh-add -l`` prints it (``"SHA256:…"``). None takes the first one that
                Pie accepts.

        Returns:
            The key.

        Raises:
            InvalidKeyError: there is no agent (``SSH_AUTH_SOCK`` says where it is), or it has no such key.
        """
        if fingerprint is not None and not isinstance(fingerprint, str):
            raise TypeError(f"fingerprint must be str or None, not {type(fingerprint).__name__}")
        from ._agent import find_agent_key  # noqa: PLC0415 - costs 0.2 s, paid by who uses a key

        self = object.__new__(cls)
        self._key = find_agent_key(fingerprint)
        return self

    @property
    def algorithm(self) -> str:
        """SSH's name of the key's type.

        One of ``"ssh-ed25519"``, ``"ssh-rsa"``, ``"ecdsa-sha2-nistp256"`` and ``"ecdsa-sha2-nistp384"``.
        """
        return self._key.get_name()

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the public key, as ``ssh-keygen -l`` prints it: ``"SHA256:…"``."""
        return self._key.fingerprint

    def sign(self, data: bytes | bytearray | memoryview) -> bytes:
        """Sign some bytes.

        This signs whatever it is given. That a server's challenge has a harmless length, and so can't be
        something else in disguise, is for the caller to check; ``PieClient.authenticate`` does.

        Blocks for CPU time only: about a millisecond, up to 0.05 s for the largest RSA keys.

        Args:
            data: what to sign, any bytes-like object.

        Returns:
            The raw signature, as Pie's servers verify it. RSA: PKCS#1 v1.5 with SHA-256. Ed25519: 64 bytes.
            ECDSA: ASN.1 DER of (r, s), with SHA-256 on P-256 and with SHA-384 on P-384.

        Raises:
            InvalidKeyError: an agent that holds the key refuses to sign.
        """
        from ._signing import sign_raw  # noqa: PLC0415 - imports paramiko, as parse() did

        # By way of memoryview, since bytes(5) would be five zeros.
        return sign_raw(self._key, memoryview(data).tobytes())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.algorithm} {self.fingerprint}>"

    def __reduce__(self) -> NoReturn:
        # Copying ends here, too.
        raise TypeError(
            "a private key can't be pickled or copied: hand its path to the other process and load it there "
            "with ParsedPrivateKey.from_file(path); within a process, share the key, it never changes"
        )


def _password_bytes(password: str | bytes | None) -> bytes | None:
    if password is None or isinstance(password, bytes):
        return password
    if not isinstance(password, str):
        raise TypeError(f"password must be str or bytes, not {type(password).__name__}")
    # Surrogates can't be in a password that was typed; a UnicodeEncodeError would carry the password along.
    return password.encode("utf-8", "replace")
