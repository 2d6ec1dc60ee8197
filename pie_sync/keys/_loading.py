"""Loads the text of a key file as a key of paramiko's. The only module that reads key material."""

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
from ._library_errors import is_library_error
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
        text: the content of the key file.
        password: the password of the key; ignored when the key is not encrypted.

    Returns:
        The key, of a kind and size that Pie accepts.

    Raises:
        InvalidKeyError: there is no key, or it can't be read, or Pie does not accept it. Neither the text of the
            error nor its cause holds key material or the password.
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
    except Exception as error:
        if not is_library_error(error):
            raise
        cause = _without_secrets(error)
    # Raised outside of the except clause, so that the original exception does not become its __context__.
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
    # paramiko trusts the private part, even if damage has turned it into another key.
    if key.asbytes() != header.public_key:
        raise ValueError(_MISMATCH)
    return key


def _load_by_paramiko(key_class: type[_Key], block: PemBlock, password: bytes | None) -> _Key:
    # The type stubs ask for a str; every release of paramiko accepts bytes.
    return key_class.from_private_key(StringIO(block.text), password)  # type: ignore[arg-type]


def _load_pkcs8(block: PemBlock, password: bytes | None) -> PKey:
    # load_pem_private_key() quotes lines of the file in its errors. The check of the primes comes after the check
    # of the size, since for an RSA key that is too large it can take a minute.
    data = binascii.a2b_base64(block.body)
    key = load_der_private_key(data, password, unsafe_skip_rsa_key_validation=True)
    if isinstance(key, RSAPrivateKey):
        check_rsa_size(key.key_size)
        return RSAKey(key=key.private_numbers().private_key())
    if isinstance(key, EllipticCurvePrivateKey):
        return _checked_ecdsa(ECDSAKey(vals=(key, key.public_key())))
    if isinstance(key, Ed25519PrivateKey):
        # paramiko loads Ed25519 keys from OpenSSH's format only.
        text = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        return Ed25519Key.from_private_key(StringIO(text))
    raise not_accepted(type(key).__name__.strip("_").replace("PrivateKey", ""))


class _OpenSSHHeader(NamedTuple):
    """The part of a file in OpenSSH's format that is never encrypted."""

    encrypted: bool
    key_type: str
    public_key: bytes


def _read_openssh_header(block: PemBlock) -> _OpenSSHHeader:
    """Read the header of the file. Raises ``InvalidKeyError`` if Pie does not accept its kind of public key."""
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
        # Not quoted: in a damaged file these can be any bytes, secret ones as well.
        raise ValueError("the type of the key is not known")
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
    # Not every release of cryptography notices that damage has turned the private part into another key.
    if not key.verify_ssh_sig(b"", Message(key.sign_ssh_data(b"").asbytes())):
        raise ValueError(_MISMATCH)
    return key


def _without_secrets(error: Exception) -> Exception | None:
    """Return a library's exception without its traceback, to be a cause, or None if it can't be used.

    The frames of a traceback hold the decrypted key and the password in their local variables, which some tools
    print. A UnicodeError holds the bytes that it could not decode.
    """
    if isinstance(error, UnicodeError):
        return None
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
