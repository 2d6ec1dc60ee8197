"""Validates arguments: a mistake is an error at once, with a hint, before anything is sent."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Union

from .._transport.uri import is_loopback, parse_uri
from ..errors import PieValueError, ProtocolError

__all__ = [
    "Arguments",
    "check_args",
    "check_challenge",
    "check_count",
    "check_hash",
    "check_hash_or_name",
    "check_headers",
    "check_identity",
    "check_message",
    "check_name",
    "check_protocol",
    "check_size",
    "check_text",
    "check_uri",
    "is_confidential",
    "is_on_this_machine",
]

#: What a program is given: command-line arguments, or the names and values of its parameters.
Arguments = Union[Sequence[str], Mapping[str, Any]]

#: Challenges of any other length are not signed. The server chooses the bytes: a hostile one could have an SSH
#: login or a TLS handshake signed, which are both longer than 100 bytes. (Protocol: "Challenge and signature".)
_CHALLENGE_SIZES = range(16, 65)

#: RFC 9110 section 5.6.2.
_HEADER_NAME = re.compile("[A-Za-z0-9!#$%&'*+.^_`|~-]+")

#: Sent by the handshake itself, so that the request would have each of them twice.
_HANDSHAKE_HEADERS = {"upgrade", "connection", "host", "sec-websocket-key", "sec-websocket-version"}

_HASH = re.compile("[0-9a-fA-F]{64}")


def check_uri(uri: str, name: str = "server_uri") -> str:
    """Return the URI of a WebSocket server to which a connection may work."""
    if not isinstance(uri, str):
        raise TypeError(f"{name} must be a str, not {type(uri).__name__}")
    try:
        parse_uri(uri)
    except ValueError as error:
        raise PieValueError(f"{name} {error}") from None
    return uri


def is_confidential(uri: str) -> bool:
    """Whether nobody else can read what is sent to a server: it's encrypted, or doesn't leave this machine.

    Loopback does not: :class:`Dialer` takes no proxy to it, and follows no look-up that leads elsewhere.
    """
    return parse_uri(uri).is_secure or is_on_this_machine(uri)


def is_on_this_machine(uri: str) -> bool:
    """Whether a URI leads to a loopback address, and so to this machine."""
    return is_loopback(parse_uri(uri).host)


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return HTTP headers that contain nothing but themselves."""
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("headers must map str to str")
        if not _HEADER_NAME.fullmatch(name):
            raise PieValueError(f"{name!r} can't be the name of a header")
        if any(char in value for char in "\r\n\0"):
            raise PieValueError(f"the header {name!r} contains a line break")
        if name.lower() in _HANDSHAKE_HEADERS:
            raise PieValueError(f"the header {name!r} is the WebSocket handshake's own")
    return dict(headers)


def check_size(size: int, name: str) -> int:
    """Return a number of bytes."""
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"{name} must be a number of bytes, not {type(size).__name__}")
    if size <= 0:
        raise PieValueError(f"{name} must be positive, got {size}")
    return size


def check_hash(program_hash: Any) -> str:
    """Return a BLAKE3 hash, in lower case."""
    if not isinstance(program_hash, str):
        raise TypeError(f"program_hash must be a str, not {type(program_hash).__name__}")
    if not _HASH.fullmatch(program_hash):
        raise PieValueError(
            f"program_hash must be the 64 hexadecimal digits that upload_program() returns, got {program_hash!r};"
            " for a program's name there is launch_instance_from_registry(), or name@version in program_exists()"
        )
    return program_hash.lower()


def check_hash_or_name(program: Any) -> str:
    """Return a BLAKE3 hash in lower case, or a ``name@version`` as it is."""
    if isinstance(program, str) and "@" in program.strip("@"):
        return program
    return check_hash(program)


def check_name(name: str) -> str:
    """Return the name of a program."""
    if not check_text(name, "name"):
        raise PieValueError("name must not be empty")
    if _HASH.fullmatch(name):
        raise PieValueError(f"name is a program's hash, not its name: {name!r}; launch_instance() takes hashes")
    return name


def check_args(args: Sequence[str] | Mapping[str, Any]) -> list[str] | dict[str, Any]:
    """Return a program's arguments: a list of strings, or a mapping."""
    if type(args) is list:  # a batch has nothing else, as a rule; isinstance(args, Mapping) takes 0.5 us
        for argument in args:
            if type(argument) is not str:
                break
        else:
            return args.copy()
    if isinstance(args, Mapping):
        return dict(args)
    if isinstance(args, (str, bytes)):
        raise TypeError(f"args must be a list of strings, not one {type(args).__name__}: did you mean [{args!r}]?")
    arguments = list(args)
    for index, argument in enumerate(arguments):
        if not isinstance(argument, str):
            raise TypeError(f"args[{index}] must be a str, not {type(argument).__name__}")
    return arguments


def check_text(text: str, name: str, hint: str = "") -> str:
    """Return ``text`` if it is one."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {type(text).__name__}{': ' if hint else ''}{hint}")
    return text


def check_message(message: object) -> None:
    """Raise unless ``message`` is text."""
    if not isinstance(message, str):
        hint = ""
        if isinstance(message, (bytes, bytearray, memoryview)):
            hint = ": bytes go through upload_blob()"
        elif message is None or isinstance(message, (dict, list, tuple, int, float)):
            hint = ": json.dumps(message) makes a text of it"
        raise TypeError(f"message must be a str, not {type(message).__name__}{hint}")


def check_count(count: int, name: str, *, least: int) -> int:
    """Return ``count`` if it is a number that is big enough."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} must be an int, not {type(count).__name__}")
    if count < least:
        raise PieValueError(f"{name} must be at least {least}, got {count}")
    return count


def check_protocol(protocol: str) -> str:
    """Return the name of a generation of the protocol."""
    if protocol not in ("auto", "instance", "process"):
        raise PieValueError(f"protocol must be 'auto', 'instance' or 'process', got {protocol!r}")
    return protocol


def check_identity(identity: str) -> str:
    """Return what is to be the value of a header."""
    check_text(identity, "identity")
    if not identity or not identity.isprintable() or not identity.isascii():
        raise PieValueError(f"identity must be printable ASCII, like 'tenant/name', got {identity!r}")
    return identity


def check_challenge(text: str) -> bytes:
    """Return the challenge that a server sent, if it is one."""
    try:
        challenge = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError("the server sent a challenge that is not base64; nothing was signed") from error
    if len(challenge) not in _CHALLENGE_SIZES:
        raise ProtocolError(
            f"the server sent a challenge of {len(challenge)} bytes; nothing was signed,"
            f" since a Pie challenge has {_CHALLENGE_SIZES.start} to {_CHALLENGE_SIZES.stop - 1}"
        )
    return challenge
