"""Finds the private key in the text of a key file. Pure: no key material is decoded here."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import InvalidKeyError

__all__ = ["PemBlock", "find_private_key"]

_BEGIN_PRIVATE_KEY = re.compile(r"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----")
_BEGIN_ANYTHING = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
# A line of a .pub or authorized_keys file, or the output of `openssl … -pubout` or of `ssh-keygen -e`.
_PUBLIC_KEY = re.compile(r"\b(?:ssh|ecdsa|sk)-\S+ AAAA|-----BEGIN [A-Z0-9 ]*PUBLIC KEY-----|BEGIN SSH2 PUBLIC KEY")


class PemBlock(NamedTuple):
    """A block of PEM (RFC 7468).

    Attributes:
        label: the name in its BEGIN and END lines, such as ``"OPENSSH PRIVATE KEY"``.
        body: the lines between those two, each stripped of blanks: possibly headers, then base64.
    """

    label: str
    body: str

    @property
    def text(self) -> str:
        """The block as the content of a file."""
        return f"-----BEGIN {self.label}-----\n{self.body}\n-----END {self.label}-----\n"


def find_private_key(text: str) -> PemBlock:
    """Find the first private key in a text.

    Other blocks and remarks may stand before and after the key (``openssl ecparam`` writes the parameters of the
    curve first). Lines may end in LF or CRLF.

    Args:
        text: the content of a key file.

    Returns:
        The block of the private key, without the text around it: paramiko's loaders fail on text before a key.

    Raises:
        InvalidKeyError: there is no private key in the text, or its END line is missing. The text of the error
            tells what was found instead, and what to do.
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
