"""Finds the private key in the text of a key file, and tells what the text is when there is none."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import InvalidKeyError

__all__ = ["PemBlock", "find_private_key"]

_BEGIN_PRIVATE_KEY = re.compile(r"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----")
_BEGIN_ANYTHING = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
# One line of a .pub or authorized_keys file, one made by `openssl … -pubout`, one made by `ssh-keygen -e`.
_PUBLIC_KEY = re.compile(r"\b(?:ssh|ecdsa|sk)-\S+ AAAA|-----BEGIN [A-Z0-9 ]*PUBLIC KEY-----|BEGIN SSH2 PUBLIC KEY")


class PemBlock(NamedTuple):
    """What stands between a BEGIN line and its END line.

    Attributes:
        label: what the two lines name, such as ``"OPENSSH PRIVATE KEY"``.
        body: the lines between them, stripped: possibly headers, then base64.
    """

    label: str
    body: str

    @property
    def text(self) -> str:
        """The block alone, as a file of its own."""
        return f"-----BEGIN {self.label}-----\n{self.body}\n-----END {self.label}-----\n"


def find_private_key(text: str) -> PemBlock:
    """Find the first private key in a text.

    Other blocks may stand before it (``openssl ecparam`` writes the parameters of the curve first) and after
    it, and so may remarks. How the lines end does not matter.

    Args:
        text: what a key file holds.

    Returns:
        The block, cut out: paramiko's loaders stumble over what stands before it.

    Raises:
        InvalidKeyError: there is no private key in the text, or only the beginning of one.
    """
    begin = _BEGIN_PRIVATE_KEY.search(text)
    if begin is None:
        raise InvalidKeyError(_why_there_is_none(text))
    label = begin[1]
    end = text.find(f"-----END {label}-----", begin.end())
    if end < 0:
        raise InvalidKeyError(
            f"the private key is cut off: no line '-----END {label}-----'; copy the file again, whole"
        )
    lines = text[begin.end() : end].strip().splitlines()
    return PemBlock(label, "\n".join(line.strip() for line in lines))


def _why_there_is_none(text: str) -> str:
    if not text.strip():
        return "the private key is empty: give a file that ssh-keygen or openssl wrote"
    if _PUBLIC_KEY.search(text):
        return (
            "this is a public key: give the private key that belongs to it, "
            "most often the file of the same name without '.pub'"
        )
    if text.lstrip().startswith("PuTTY-User-Key-File"):
        return (
            "this is a private key in PuTTY's own format: convert it "
            "with `puttygen FILE -O private-openssh -o NEWFILE`"
        )
    other = _BEGIN_ANYTHING.search(text)
    if other is not None:
        return f"this is a {other[1]}, not a private key: give the file of the private key"
    return (
        "this is not a private key: there is no line '-----BEGIN ... PRIVATE KEY-----'; "
        "give a file that ssh-keygen or openssl wrote, whole and unchanged"
    )
