"""From the text of a key file to a paramiko key. The only module that reads key material."""

from __future__ import annotations

import binascii
from io import StringIO
from typing import NamedTuple, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from paramiko import ECDSAKey, Ed25519Key, Message, PKey, RSAKey

from ..errors import InvalidKeyError
from ._accepted import check_rsa_size, not_accepted
from ._pem import PemBlock, find_private_key
from ._wire import WireReader

__all__ = ["load_private_key"]

_Key = TypeVar("_Key", bound=PKey)

_CURVES = {"secp256r1", "secp384r1"}
_OPENSSH_MAGIC = b"openssh-key-v1\0"
_OPENSSH_CLASSES: dict[str, type[RSAKey | ECDSAKey | Ed25519Key]] = {
    "ssh-rsa": RSAKey,
    "ssh-ed25519": Ed25519Key,
    "ecdsa-sha2-nistp256": ECDSAKey,
    "ecdsa-sha2-nistp384": ECDSAKey,
}
_OPENSSH_REFUSED = {
    "ssh-dss": "DSA",
    "ecdsa-sha2-nistp521": "ECDSA P-521",
    "sk-ssh-ed25519@openssh.com": "security key",
    "sk-ecdsa-sha2-nistp256@openssh.com": "security key",
}

_DAMAGED = (
    "the private key can't be read: it is damaged, or of a kind that is not accepted; "
    "copy the file again, whole, or see whether `ssh-keygen -y -f FILE` can read it"
)
_LOCKED = "the private key is encrypted: give its password (password=...)"
_STILL_LOCKED = (
    "wrong password for the private key; if it is the right one, then the file is damaged, or encrypted "
    "with a cipher that can't be read: `ssh-keygen -p -f FILE` encrypts it afresh"
)
_MISMATCH = "the public and the private key in the file don't belong together"


def load_private_key(text: str, password: bytes | None) -> PKey:
    """Load a private key of any accepted kind from a file of any accepted format.

    Blocks for CPU time only: see :meth:`ParsedPrivateKey.parse`.

    Args:
        text: what the key file holds.
        password: what it is encrypted with; ignored when it is not encrypted.

    Returns:
        The key, of a kind and size that Pie accepts.

    Raises:
        InvalidKeyError: there is none, or it can't be read, or Pie does not accept it. Neither the text nor
            the cause holds key material or the password.
    """
    block = find_private_key(text)
    problem = _DAMAGED
    try:
        if _is_encrypted(block):
            if not password:
                raise InvalidKeyError(_LOCKED)
            problem = _STILL_LOCKED
        else:
            password = None
        return _load(block, password)
    except InvalidKeyError:
        raise
    except Exception as error:  # IndexError, AssertionError, …: whatever the libraries' parsing stumbles over
        cause = _without_secrets(error)
    # Out here, so that the original exception is not the new one's __context__.
    raise InvalidKeyError(problem) from cause


def _load(block: PemBlock, password: bytes | None) -> PKey:
    if block.label == "OPENSSH PRIVATE KEY":
        return _load_openssh(block, password)
    if block.label == "RSA PRIVATE KEY":
        rsa_key = _load_by_paramiko(RSAKey, block, password)
        check_rsa_size(rsa_key.get_bits())
        return rsa_key
    if block.label == "EC PRIVATE KEY":
        ecdsa_key = _load_by_paramiko(ECDSAKey, block, password)
        return _checked_ecdsa(ecdsa_key)
    if block.label in {"PRIVATE KEY", "ENCRYPTED PRIVATE KEY"}:
        return _load_pkcs8(block, password)
    if block.label == "DSA PRIVATE KEY":
        raise not_accepted("DSA")
    raise InvalidKeyError(
        f"the file format {block.label!r} is not known: give a private key in the OpenSSH format or in PEM "
        "(PKCS#8, PKCS#1, SEC1)"
    )


def _load_openssh(block: PemBlock, password: bytes | None) -> PKey:
    header = _read_openssh_header(block)
    key = _load_by_paramiko(_OPENSSH_CLASSES[header.key_type], block, password)
    # paramiko takes what the private part says, even if damage has made another key of it.
    if key.asbytes() != header.public_key:
        raise ValueError(_MISMATCH)
    return key


def _load_by_paramiko(key_class: type[_Key], block: PemBlock, password: bytes | None) -> _Key:
    # The type information asks for a str; every release of paramiko takes bytes as they are.
    return key_class.from_private_key(StringIO(block.text), password)  # type: ignore[arg-type]


def _load_pkcs8(block: PemBlock, password: bytes | None) -> PKey:
    # Not by load_pem_private_key(), which quotes lines of the file in its errors. Unchecked at first, since
    # checking the primes of an RSA key that is too large can take a minute.
    data = binascii.a2b_base64(block.body)
    key = load_der_private_key(data, password, unsafe_skip_rsa_key_validation=True)
    if isinstance(key, RSAPrivateKey):
        check_rsa_size(key.key_size)
        return RSAKey(key=key.private_numbers().private_key())
    if isinstance(key, EllipticCurvePrivateKey):
        return _checked_ecdsa(ECDSAKey(vals=(key, key.public_key())))
    if isinstance(key, Ed25519PrivateKey):
        # paramiko makes an Ed25519 key from nothing but a file in OpenSSH's format.
        text = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        return Ed25519Key.from_private_key(StringIO(text))
    raise not_accepted(type(key).__name__.strip("_").replace("PrivateKey", ""))


class _OpenSSHHeader(NamedTuple):
    """What OpenSSH's format tells without the password."""

    encrypted: bool
    key_type: str
    public_key: bytes


def _read_openssh_header(block: PemBlock) -> _OpenSSHHeader:
    """Read the clear part of the file, and refuse at once what its public key shows to be unacceptable."""
    data = binascii.a2b_base64(block.body)
    if not data.startswith(_OPENSSH_MAGIC):
        raise ValueError("the magic bytes of OpenSSH's format are missing")
    header = WireReader(data[len(_OPENSSH_MAGIC) :])
    cipher = header.string()
    header.string()  # the name of the key derivation function
    header.string()  # its parameters
    header.uint32()  # how many keys
    public_key = header.string()
    fields = WireReader(public_key)
    key_type = fields.string().decode("ascii", "replace")
    if key_type in _OPENSSH_REFUSED:
        raise not_accepted(_OPENSSH_REFUSED[key_type])
    if key_type not in _OPENSSH_CLASSES:
        raise ValueError("the type of the key is not known")  # in a damaged file it can be any of its bytes
    if key_type == "ssh-rsa":
        fields.mpint()  # the public exponent
        check_rsa_size(fields.mpint().bit_length())
    return _OpenSSHHeader(cipher != b"none", key_type, public_key)


def _is_encrypted(block: PemBlock) -> bool:
    if block.label == "OPENSSH PRIVATE KEY":
        return _read_openssh_header(block).encrypted
    return block.label.startswith("ENCRYPTED ") or block.body.startswith("Proc-Type: 4,ENCRYPTED")


def _checked_ecdsa(key: ECDSAKey) -> ECDSAKey:
    curve = key.verifying_key.curve.name
    if curve not in _CURVES:
        raise not_accepted("ECDSA P-521" if curve == "secp521r1" else f"ECDSA {curve}")
    # Not every release of cryptography notices that damage has made another key of the private part.
    if not key.verify_ssh_sig(b"", Message(key.sign_ssh_data(b"").asbytes())):
        raise ValueError(_MISMATCH)
    return key


def _without_secrets(error: Exception) -> Exception | None:
    """Make an exception of a library fit for being a cause.

    The frames of its traceback hold the decrypted key and the password in their local variables, which some
    tools print; a UnicodeError holds the bytes that it could not decode.
    """
    if isinstance(error, UnicodeError):
        return None
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
